"""An optimizer that was made before wrapping has none of the added parameters, and the user is told."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable

import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap

Optimizers = Callable[[nn.Module], Iterable[torch.optim.Optimizer]]


def wrapped() -> muxwrap.Multiplex:
    return muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1)).train()


def train(model: muxwrap.Multiplex, optimizers: Iterable[torch.optim.Optimizer], calls: int = 6) -> list[str]:
    """Train, the optimizers taking turns, and return what was warned of."""
    turns = list(optimizers)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for call in range(calls):
            model.zero_grad()
            model(batch("mlp", 5)).square().sum().backward()
            turns[call % len(turns)].step()
    return [str(each.message) for each in told]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_of_the_backbone_alone_is_told_of_once(fused: bool) -> None:
    backbone = make("mlp")
    optimizer = torch.optim.Adam(backbone.parameters(), fused=fused)
    model = muxwrap.wrap(backbone, 2, example_input=batch("mlp", 1)).train()
    before = copy.deepcopy(model.demuxers.state_dict())
    (told,) = train(model, [optimizer])
    assert "make the optimizer of the wrapped model's parameters() after wrapping" in told
    torch.testing.assert_close(model.demuxers.state_dict(), before, rtol=0, atol=0)
    assert len(train(copy.deepcopy(model), [optimizer])) == 0  # it steps on another model's


def added(model: muxwrap.Multiplex) -> list[nn.Parameter]:
    return [*model.strategy.parameters(), *model.demuxers.parameters()]


@pytest.mark.parametrize(
    "optimizers",
    [
        lambda model: [torch.optim.SGD(model.parameters(), 0.01)],
        lambda model: [torch.optim.SGD(added(model), 0.01)],
        lambda model: [torch.optim.SGD(part, 0.01) for part in (model.backbone.parameters(), added(model))],
        lambda model: [torch.optim.SGD([p], 0.01) for p in model.parameters()],
        lambda model: [torch.optim.SGD(make("mlp").parameters(), 0.01)],
    ],
)
def test_where_all_are_stepped_on_in_turn_nothing_is_said(optimizers: Optimizers) -> None:
    model = wrapped()
    parts = list(optimizers(model))
    assert train(model, parts if len(parts) < 3 else [Each(parts)]) == []


class Each:
    """Steps of all optimizers, as where every parameter has one."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    def step(self) -> None:
        for part in self.parts:
            part.step()


def test_added_parameters_that_are_frozen_are_meant_to_stay() -> None:
    model = wrapped()
    for p in added(model):
        p.requires_grad_(False)
    assert train(model, [torch.optim.SGD(model.backbone.parameters(), 0.01)]) == []
