"""Time configurations in one run, in turn.

What makes such figures wrong elsewhere is avoided: each configuration runs at its own best batch size (else plain batching
could explain the gain), rounds alternate their order (a machine's speed drifts), ratios are taken within a round, and
nothing runs that only training needs (the retrieval head of the published measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from muxwrap._util.examples import evaluating
from muxwrap.throughput.report import Report
from muxwrap.throughput.timing import Configuration

MIXTURES = (1, 2, 4, 8, 16, 32)
"""Sequences that the trunk sees in a call, tried for every configuration."""


def compare(
    configurations: Sequence[Configuration],
    *,
    train: bool = False,
    mixtures: Sequence[int] = MIXTURES,
    rounds: int = 5,
    seconds: float = 0.5,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Measure configurations against the first one, and against the bare model of their own dtype.

    Args:
        configurations: models with an example each; wrapped ones may be detached, they are attached for their own calls.
        train: measure forward and backward in training mode instead of the forward in evaluation mode.
        mixtures: batch sizes that the trunk is tried at; every configuration is then measured at its fastest.
        rounds: rounds, each of which runs every configuration, in alternating order.
        seconds: least time of a configuration in a round.
        progress: called with a line on what runs next, for a progress bar.
    """
    show = progress or (lambda _: None)
    with ExitStack() as modes:
        for one in configurations:
            modes.enter_context(evaluating(one.model))
        for one in configurations:
            show(f"best batch size: {one}")
            one.choose_rows(mixtures, train)
        for k in range(rounds):
            for one in configurations if k % 2 == 0 else reversed(configurations):
                show(f"round {k + 1} of {rounds}: {one}")
                one.round(seconds, train)
        show("operations and memory")
        first = configurations[0]
        return Report([one.cell(_bare(configurations, one), first, train) for one in configurations])


def _bare(configurations: Sequence[Configuration], one: Configuration) -> Configuration:
    """Return what a configuration's speed-up is over: the first one, unless a bare model shares only its dtype."""
    first = configurations[0]
    if first.dtype == one.dtype:
        return first
    return next((other for other in configurations if other.n == 1 and other.dtype == one.dtype), first)
