"""Training and scoring of the image classifiers: one way for every network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import muxwrap
from benchmarks.studies.common.cells import Progress
from benchmarks.studies.common.groupings import GROUPINGS
from benchmarks.studies.common.models import instances
from benchmarks.studies.common.recipe import Recipe, taught_loss, train
from benchmarks.studies.vision.data import Data, Split, moved
from benchmarks.studies.vision.tables import Cell


def recipe(cell: Cell, seed: int) -> Recipe:
    """Return a cell's recipe."""
    return Recipe(
        epochs=cell.epochs,
        mixtures=cell.mixtures,
        least_rows=128,
        seed=seed,
        lr=cell.lr,
        decay=cell.decay,
        rise=0.2,
        clip=None,
        crosstalk=cell.crosstalk,
    )


class ShuffledRows:
    """Batches of row numbers, the last incomplete one left out; every iteration is another order."""

    def __init__(self, count: int, rows: int, device: torch.device) -> None:
        self.count, self.rows, self.device = count, min(rows, count), device

    def __len__(self) -> int:
        return self.count // self.rows

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(self.count, device=self.device)
        return iter(order[: len(self) * self.rows].split(self.rows))


def fit(model: nn.Module, data: Data, how: Recipe, progress: Progress, teacher: nn.Module | None = None) -> int:
    """Train a network; a new order in every epoch gives every image new companions.

    Args:
        model: trained in place.
        data: its training images, which are cut to size at random places.
        how: the recipe.
        progress: shows a line.
        teacher: a network whose answers to the same images are half of the loss.

    Returns:
        The steps made.
    """

    def loss_of(rows: Tensor) -> Tensor:
        x = moved(images[rows], data.side, flip=data.channels == 3)
        logits = model(x)
        with torch.no_grad():
            answers = None if teacher is None else teacher(x)
        return taught_loss(F.cross_entropy(logits, labels[rows]), logits, answers)

    torch.manual_seed(how.seed)
    images, labels = data.train
    batches = ShuffledRows(len(labels), how.rows(instances(model)), labels.device)
    optimizer = how.optimizer(_decayed(model, how.decay), model, images[:1, :, : data.side, : data.side])
    for _ in train(model, batches, loss_of, optimizer, how, progress):
        pass
    return len(batches) * how.epochs


def _decayed(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return groups of parameters; norms and biases do not decay."""
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or "norm_" in name or "bias" in name]
    ids = {id(p) for p in plain}
    weights = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": weights, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def evaluate(model: nn.Module, split: Split, first: int = 0) -> dict[str, Any]:
    """Return the accuracy in percent over random groupings of all images, and per index; ``first`` seeds the groupings."""
    rows = 64 * instances(model)
    batches = zip(split.images.split(rows), split.labels.split(rows), strict=True)
    found = muxwrap.evaluate(model, batches, groupings=GROUPINGS, seed=first, progress=False)
    return {
        "mean": 100 * found.mean,
        "std": None if found.deviation is None else 100 * found.deviation,
        "groupings": len(found.scores),
        "per_index": [round(100 * score, 2) for score in found.per_index],
        "scored": found.rows,
    }
