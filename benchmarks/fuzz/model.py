"""A plan's model, and calls of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fuzz.parts import SOURCES
from benchmarks.fuzz.plan import MASKS, Plan
from benchmarks.fuzz.source import argument_names, code_of

LENGTH, KEPT = 11, 7
"""Tokens of a sequence, and how many of the first row are no padding, where there is a mask."""


class Model:
    """A plan's model with weights of its seed, in float64, and the batches that it is called with.

    Args:
        plan: what to make.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.code = code_of(plan)
        self.names: dict[str, Any] = {"__name__": __name__}  # a dataclass looks for its module
        exec(compile(self.code, f"<fuzz {plan.seed}>", "exec"), self.names)

    def net(self) -> nn.Module:
        """Return the model, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            return self.names["Net"]().double().eval()

    def batch(self, rows: int, salt: int = 0) -> dict[str, Tensor]:
        """Return the tensors of a call."""
        rng = torch.Generator().manual_seed(self.plan.seed * 1000 + salt)
        made: dict[str, Tensor] = {}
        for name in argument_names(self.plan):
            if name in MASKS:
                keep = torch.ones(rows, LENGTH, dtype=torch.long)
                keep[0, KEPT:] = 0
                made[name] = keep if name == "attention_mask" else keep == 0
            elif name == "labels":
                made[name] = torch.randn(rows, generator=rng).double()
            else:
                expression, _ = SOURCES[self.plan.source].arguments[name]
                value = eval(expression, {"torch": torch, "rows": rows, "rng": rng})
                made[name] = value.double() if value.is_floating_point() else value
        return made

    def call(self, batch: Mapping[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with which the model is called with a batch."""
        flag = {"gain": 0.5} if "flag" in self.plan.extras else {}
        style = self.plan.call
        if style == "keyword":
            return (), {**batch, **flag}
        packed: Any = dict(batch)
        if style == "tuple":
            packed = tuple(batch.values())
        elif style == "dataclass":
            packed = self.names["Inputs"](**batch)
        elif style == "nested":
            packed = {"inputs": packed, "name": "batch"}
        return (tuple(batch.values()) if style == "positional" else (packed,)), flag

    def example(self, rows: int) -> Any:
        """Return what wrap gets: a tensor, a tuple of arguments or a dict of keyword arguments."""
        args, kwargs = self.call(self.batch(rows))
        if kwargs and args:
            names = list(argument_names(self.plan)) if self.plan.call == "positional" else ["batch"]
            return {**dict(zip(names, args, strict=False)), **kwargs}
        if kwargs:
            return kwargs
        return args[0] if len(args) == 1 and isinstance(args[0], Tensor) else args

    def moved(self, batch: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
        """Return a batch with one row changed: all its inputs, and neither masks nor labels."""
        changed = dict(batch)
        for name, (_, axis) in SOURCES[self.plan.source].arguments.items():
            value = batch[name].clone()
            at = value.select(axis, row)
            at.copy_(at + 0.7 if at.is_floating_point() else (at + 11) % 30)
            changed[name] = value
        return changed


def seeded(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call with the same random numbers every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return call(*args, **kwargs)


def parts_of(value: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Return the structure of an output, and its tensors by the path to them."""
    if isinstance(value, Tensor):
        return (Tensor, value.dtype), {path: value}
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, (tuple, list)):
        items = list(enumerate(value))
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
    else:
        return value, {}
    structure, found = [], {}
    for key, part in items:
        inner, tensors = parts_of(part, f"{path}[{key!r}]")
        structure.append((key, inner))
        found.update(tensors)
    return (type(value), structure), found
