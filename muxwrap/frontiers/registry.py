"""Rivals by name: ways to make a trained model faster without multiplexing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError, known_names
from muxwrap.frontiers.blocks import Blocks


def as_it_is(model: nn.Module) -> nn.Module:
    """Return the model."""
    return model


@dataclass(frozen=True)
class Variant:
    """A model that a rival makes of the trained one.

    Args:
        name: for the table.
        make: edits a copy of the trained model, or makes another of it, before it is distilled.
        train: distil it; False for what answers as the trained model does.
        serve: is called with a copy of a trained model and returns what is scored and timed in its place, such as its int8
            form. A variant with one stands beside every model of the chart and needs no training of its own.
        layers: how many are kept, where they can be counted.
    """

    name: str
    make: Callable[[nn.Module], nn.Module] = as_it_is
    train: bool = True
    serve: Callable[[nn.Module], nn.Module] | None = None
    layers: int | None = None


@dataclass(frozen=True)
class Subject:
    """What a rival is told.

    Args:
        model: the trained model, bare, in evaluation mode; not to be changed.
        example: a call of one row, of the median length for text.
        batch: the inputs of a held-out batch.
        blocks: the layers; None where none were found.
        layers: how many of them the chart is to keep, most first.
        alone: whether the head reads the class token alone, so that the last layer need not compute any other.
    """

    model: nn.Module
    example: Any = field(repr=False)
    batch: Any = field(repr=False)
    blocks: Blocks | None = None
    layers: tuple[int, ...] = ()
    alone: bool = False


Rival = Callable[[Subject], Iterable[Variant]]

_RIVALS: dict[str, Rival] = {}


def register_rival(name: str) -> Callable[[Rival], Rival]:
    """Return a decorator that puts a rival of your own into every chart.

    It is called with a :class:`Subject` and yields :class:`Variant` s; where the rival makes no sense for a model it raises a
    ``MuxwrapError``, whose message stands in the table.

    Raises:
        MuxwrapError: another function has the name.

    Example:
        >>> @register_rival("half precision")
        ... def half(subject):
        ...     yield Variant("float16", serve=lambda model: model.half())
    """

    def add(rival: Rival) -> Rival:
        other = _RIVALS.get(name)
        # A module that is executed again (a notebook cell, a reload) may bring its own function once more.
        if other is not None and (other.__module__, other.__qualname__) != (rival.__module__, rival.__qualname__):
            raise MuxwrapError(f"register_rival({name!r}): another rival has that name; choose another")
        _RIVALS[name] = rival
        return rival

    return add


def list_rivals() -> list[str]:
    """Return the names that ``rivals=`` takes, sorted."""
    return sorted(_RIVALS)


def rivals_named(names: Iterable[str] | None) -> dict[str, Rival]:
    """Return rivals by name, all of them for None.

    Raises:
        MuxwrapError: a name is unknown.
    """
    if isinstance(names, str):
        names = (names,)
    found = list_rivals() if names is None else list(names)
    for name in found:
        if name not in _RIVALS:
            raise MuxwrapError(f"frontier(rivals=...): unknown rival {name!r}; {known_names(name, _RIVALS)}")
    return {name: _RIVALS[name] for name in found}
