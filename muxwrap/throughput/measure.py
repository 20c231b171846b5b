"""Measure a backbone bare and multiplexed, in one run, configurations in turn.

What makes such figures wrong elsewhere is avoided: each configuration runs at its own best batch size (else plain batching
could explain the gain), rounds alternate their order (a machine's speed drifts), ratios are taken within a round, and
nothing runs that only training needs (the retrieval head of the published measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from muxwrap.defaults import DemuxChoice, StrategyChoice, image_pixels
from muxwrap.multiplex import Multiplex
from muxwrap.sites import Choice, locate
from muxwrap.throughput.report import Report
from muxwrap.throughput.timing import Configuration, with_length

MIXTURES = (1, 2, 4, 8, 16, 32)
"""Sequences that the trunk sees in a call, tried for every configuration."""


def measure(
    backbone: nn.Module,
    n: Iterable[int] = (2, 5, 10),
    *,
    example_input: Any = None,
    strategy: StrategyChoice = None,
    demux: DemuxChoice = None,
    mux_at: Choice = None,
    demux_at: Choice = None,
    length: int | None = None,
    **options: Any,
) -> Report:
    """Measure instances per second, latency, memory and operations, the bare model's first.

    Args:
        backbone: a bare model; left as it was.
        n: group sizes to measure beside the bare model.
        example_input: a call of the backbone, one row is enough; rows are repeated.
        strategy: as in :func:`muxwrap.wrap`.
        demux: as in :func:`muxwrap.wrap`.
        mux_at: as in :func:`muxwrap.wrap`.
        demux_at: as in :func:`muxwrap.wrap`.
        length: tokens of an instance, for text; by default the example's.
        **options: of :func:`compare`.

    Raises:
        MuxwrapError: what :func:`muxwrap.wrap` refuses.
    """
    counts = tuple(n)
    pixels = image_pixels(strategy, max(counts, default=1))  # one place for all, so that only n differs
    sites, example = locate(backbone, example_input, mux_at=mux_at, demux_at=demux_at, pixels=pixels)
    example = with_length(example, length)
    configurations = [Configuration("bare", backbone, example)]
    for count in counts:
        model = Multiplex(backbone, count, strategy, demux, sites=sites)
        model.detach()  # the backbone serves every configuration in turn
        configurations.append(Configuration(f"n={count}", model, example))
    return compare(configurations, **options)


def compare(
    configurations: Sequence[Configuration],
    *,
    train: bool = False,
    mixtures: Sequence[int] = MIXTURES,
    rounds: int = 5,
    seconds: float = 0.5,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Measure configurations against the first one.

    Args:
        configurations: models with an example each; wrapped ones may be detached, they are attached for their own calls.
        train: measure forward and backward in training mode instead of the forward in evaluation mode.
        mixtures: batch sizes that the trunk is tried at; every configuration is then measured at its fastest.
        rounds: rounds, each of which runs every configuration, in alternating order.
        seconds: least time of a configuration in a round.
        progress: is told what is being done, for a progress bar.
    """
    tell = progress or (lambda _: None)
    modes = [(m, m.training) for one in configurations for m in one.model.modules()]
    try:
        for one in configurations:
            tell(f"best batch size: {one.name}")
            one.choose_rows(mixtures, train)
        for k in range(rounds):
            tell(f"round {k + 1} of {rounds}")
            for one in configurations if k % 2 == 0 else reversed(configurations):
                one.round(seconds, train)
        tell("operations and memory")
        return Report([one.cell(configurations[0], train) for one in configurations])
    finally:
        for module, mode in modes:
            module.training = mode
