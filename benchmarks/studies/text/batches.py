"""Batches of texts of like length."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.studies.common.models import device_of, instances
from benchmarks.studies.common.recipe import Recipe
from benchmarks.studies.text.tokenizer import Encoded
from muxwrap.samplers import LengthBatches


class Rows:
    """Row numbers of batches of like length; every iteration is another epoch.

    Inside a batch the order is random, so that an instance's companions and its index are random too.
    """

    def __init__(self, data: Encoded, rows: int, seed: int) -> None:
        self.sampler = LengthBatches(data.lengths.tolist(), rows, shuffle=True, seed=1000 * seed)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Tensor]:
        self.sampler.set_epoch(self.epoch)
        rng = torch.Generator().manual_seed(self.sampler.seed + self.epoch)
        self.epoch += 1
        for batch in self.sampler:
            rows = torch.tensor(batch)
            yield rows[torch.randperm(len(rows), generator=rng)]


class Batches:
    """The same rows as a model's arguments."""

    def __init__(self, data: Encoded, rows: Rows, device: torch.device) -> None:
        self.data, self.rows, self.device = data, rows, device

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self.data.batch(rows, self.device) for rows in self.rows)


def rows_for(model: nn.Module, data: Encoded, recipe: Recipe, seed: int | None = None) -> Rows:
    """Return the rows of a recipe's steps, by default with the recipe's seed."""
    return Rows(data, recipe.rows(instances(model)), recipe.seed if seed is None else seed)


def batches_for(model: nn.Module, data: Encoded, recipe: Recipe) -> Batches:
    """Return the batches of a recipe's steps, on the model's device."""
    return Batches(data, rows_for(model, data, recipe), device_of(model))
