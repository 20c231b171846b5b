"""Tensors that a model keeps on itself: a user is told where they belong to mixtures."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap


class Keeps(nn.Module):
    """Keeps what its layers make, the first time a table that has nothing to do with rows, and a list of maps."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 64)
        self.body = nn.ModuleList(nn.Linear(64, 64) for _ in range(layers + 4))
        self.fc = nn.Linear(64, 3)
        self.layers = layers
        self.table: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.table = torch.zeros(2, 5) if self.table is None else self.table
        h = self.stem(x)
        for k, layer in enumerate(self.body):
            h = torch.relu(layer(h))
            if k < self.layers:
                layer.seen = [h]
        self.input, self.logits = x, self.fc(h)
        return self.logits


def told(backbone: nn.Module, n: int) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        muxwrap.wrap(backbone, n, example_input=torch.randn(1, 8))
    return [str(each.message) for each in found if "keeps tensors on itself" in str(each.message)]


@pytest.mark.parametrize("n", [2, 4])
def test_what_belongs_to_mixtures_is_named(n: int) -> None:
    """With two mixtures in the first run, the table has as many rows as it: the bare model tells them apart."""
    backbone = Keeps()
    (message,) = told(backbone, n)
    assert f"wrap(Keeps, n={n}): the model keeps tensors on itself" in message and "(body.0.seen): after" in message
    assert backbone.table is None and not hasattr(backbone, "logits")


def test_many_are_counted() -> None:
    (message,) = told(Keeps(layers=5), 2)
    assert "(body.0.seen, body.1.seen, body.2.seen and 2 more): after" in message


def test_nothing_is_said_where_rows_are_kept() -> None:
    assert not told(Keeps(layers=0), 2)
    assert not told(Keeps(), 1)
