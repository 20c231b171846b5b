"""What the bare model does, measured before anything is wrapped."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fuzz.model import Model, parts_of, seeded
from benchmarks.fuzz.plan import Plan

LARGEST = 7
"""Rows of the largest batch; no size inside the models is a multiple of it."""

NOISE = 1e-9
"""What rounding makes of zero: the gradient of a shift before a norm, the answer of a mean after one."""

LEAST_GRADIENT = 1e-6
"""Of a parameter that is trained, relative to the largest one above 1. One before several norms has less, which mixing may make
that of rounding."""

Parts = tuple[Any, dict[str, Tensor]]


class Facts:
    """A bare model in evaluation mode, and what it answers.

    Args:
        plan: what to make; it runs on the largest batch, or is of no use.

    Attributes:
        model: its class and calls.
        net: a model with the plan's weights.
        answers: by rows: the structure of the output and its tensors; without those batches that the bare model cannot take.
        rows_apart: whether each row's answer moves with its own input only.
        trained: structure and tensors of the output in training.
        gradients: names of the parameters that get a gradient in training.
    """

    def __init__(self, plan: Plan) -> None:
        self.model = Model(plan)
        self.net = self.model.net()
        self.answers: dict[int, Parts] = {LARGEST: parts_of(self.ask(self.net, LARGEST))}
        for rows in range(1, LARGEST):
            with contextlib.suppress(Exception):
                output = self.ask(self.net, rows)
                if first_answer(output).shape[:1] == (rows,):  # squeeze() takes one row for no rows
                    self.answers[rows] = parts_of(output)
        self.moved = {row: self.moves(self.net, row) for row in range(LARGEST)}
        self.rows_apart = all(
            moved is not None and float(torch.cat([moved[:row], moved[row + 1 :]]).max()) < 1e-9
            for row, moved in self.moved.items()
        )
        self.trained, largest = train(copy.deepcopy(self.net), self.model)
        least = LEAST_GRADIENT * max(1.0, *largest.values())
        self.gradients = {name for name, gradient in largest.items() if gradient > least}

    def ask(self, net: Callable[..., Any], rows: int) -> Any:
        """Return the answers to a batch."""
        with torch.no_grad():
            return seeded(net, *self.model.call(self.model.batch(rows)))

    def moves(self, net: Callable[..., Any], row: int) -> Tensor | None:
        """Return how far each row's first answer moves when one row of the input does; None where rows are not there."""
        batch = self.model.batch(LARGEST)
        with torch.no_grad():
            before, after = (
                first_answer(seeded(net, *self.model.call(each))) for each in (batch, self.model.moved(batch, row))
            )
        if before.shape[:1] != (LARGEST,):
            return None
        return (before - after).abs().reshape(LARGEST, -1).amax(1)


def first_answer(output: Any) -> Tensor:
    """Return the first tensor of an output."""
    return next(iter(parts_of(output)[1].values()))


def train(net: nn.Module, model: Model) -> tuple[Parts, dict[str, float]]:
    """Run one step of training without changing a weight, and return the output and the largest gradient of each parameter."""
    net.train()
    output = seeded(net, *model.call(model.batch(LARGEST)))
    parts = parts_of(output)
    _loss([value for value in parts[1].values() if value.requires_grad]).backward()
    net.eval()
    return parts, {name: float(p.grad.abs().max()) for name, p in net.named_parameters() if p.grad is not None}


def _loss(answers: list[Tensor]) -> Tensor:
    """Return a loss that every number of the answers has another part in: the sum of what a norm gives is the same for all."""
    assert answers, "nothing to train"
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(each.shape, generator=generator, dtype=torch.float64) for each in answers]
    return torch.stack(
        [(part * (each.double() ** 2 + each)).sum() for part, each in zip(parts, answers, strict=True)]
    ).sum()
