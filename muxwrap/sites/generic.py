"""Any module: sites from nothing but the order in which its layers run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.layout import Side, Site
from muxwrap.sites.probe import Trace, Visit
from muxwrap.sites.resolve import site_at


def matches(backbone: nn.Module) -> bool:
    """Every module."""
    return True


def example(backbone: nn.Module) -> Any:
    """A user-written model says nowhere what it takes.

    Raises:
        MuxwrapError: always; the message asks for an example.
    """
    raise MuxwrapError(
        f"{type(backbone).__name__} does not say what it takes; give example_input= (a tensor, a tuple of arguments or a "
        "dict of keyword arguments), one row is enough"
    )


def mux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the first layer, before the layers that follow, at the raw input."""
    leaves = trace.leaves()
    for visit in leaves[:1]:
        yield from _single(trace, visit, "output")
    for visit in _after(trace, leaves[0])[:4] if leaves else []:
        yield from _single(trace, visit, "input")
    if trace.visits and trace.visits[0].input is not None and trace.visits[0].input.is_floating_point():
        yield from _single(trace, trace.visits[0], "input")


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the last layer, which is the head; or what the backbone returns."""
    for visit in reversed(trace.leaves()[-2:]):
        yield from _single(trace, visit, "input")
    yield from _single(trace, trace.visits[0], "output")


def _after(trace: Trace, first: Visit) -> list[Visit]:
    """Return the modules entered after the first layer was left, one for every tensor that they read."""
    found: list[Visit] = []
    for visit in trace.once:
        new = visit.input is not None and all(visit.input is not other.input for other in found)
        if visit.entered > first.left and new:
            found.append(visit)
    return found


def _single(trace: Trace, visit: Visit, side: Side) -> Iterator[tuple[Site, ...]]:
    site = site_at(trace, visit.path, side)
    if site is not None:
        yield (site,)
