"""Measure a backbone bare and multiplexed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from muxwrap.defaults import DemuxChoice, StrategyChoice, image_pixels
from muxwrap.multiplex import Multiplex
from muxwrap.sites import Choice, locate
from muxwrap.sites.examples import example_of
from muxwrap.throughput.compare import compare
from muxwrap.throughput.dtypes import CANDIDATES, DtypeChoice, dtypes_of, example_in_dtype, in_dtype
from muxwrap.throughput.report import Report
from muxwrap.throughput.timing import Configuration, with_length

SHORT = {
    "mixtures": (1, 4),
    "rounds": 3,
    "seconds": 0.2,
}  # enough to tell dtypes apart, where one of them is very slow, too


def measure(
    backbone: nn.Module,
    n: Iterable[int] = (2, 5, 10),
    *,
    example_input: Any = None,
    dtype: DtypeChoice = None,
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
        dtype: of weights and inputs, such as ``torch.bfloat16`` or ``"bfloat16"``; several are measured in turn within
            one run; ``"auto"`` takes the one that the bare model is fastest in (:func:`compare_dtypes`). By default the
            backbone's own. Other dtypes than its own are measured on a copy.
        strategy: as in :func:`muxwrap.wrap`.
        demux: as in :func:`muxwrap.wrap`.
        mux_at: as in :func:`muxwrap.wrap`.
        demux_at: as in :func:`muxwrap.wrap`.
        length: tokens of an instance, for text; by default the example's.
        **options: of :func:`compare`.

    Raises:
        MuxwrapError: what :func:`muxwrap.wrap` refuses, or an unknown dtype.
    """
    counts = tuple(n)
    if dtype == "auto":
        dtype = compare_dtypes(
            backbone, example_input=example_input, length=length, **{**options, **SHORT}
        ).fastest.dtype
    dtypes = dtypes_of(dtype)
    pixels = image_pixels(strategy, max(counts, default=1))  # one place for all, so that only n differs
    sites, example, *_ = locate(backbone, example_input, mux_at=mux_at, demux_at=demux_at, pixels=pixels)
    example = with_length(example, length)
    configurations = []
    for each in dtypes:
        bare, call = in_dtype(backbone, each), example_in_dtype(example, each)
        configurations.append(Configuration("bare", bare, call))
        for count in counts:
            model = Multiplex(bare, count, strategy, demux, sites=sites)
            model.detach()  # the backbone serves every configuration in turn
            configurations.append(Configuration(f"n={count}", model, call))
    return compare(configurations, **options)


def compare_dtypes(
    backbone: nn.Module,
    dtypes: Iterable[torch.dtype | str] = CANDIDATES,
    *,
    example_input: Any = None,
    length: int | None = None,
    **options: Any,
) -> Report:
    """Measure the bare model in several dtypes, in turn within one run: ``report.fastest.dtype`` is the best.

    A processor may or may not have instructions for a dtype, and libraries may or may not use them: what counts is the
    time. Weights and inputs are cast: autocast would cast the weights again in every call.

    Args:
        backbone: a bare model; left as it was.
        dtypes: the dtypes to try; speed-ups are over the first.
        example_input: as in :func:`measure`.
        length: as in :func:`measure`.
        **options: of :func:`compare`; by default few rounds at small batches.

    Raises:
        MuxwrapError: no example is given and none can be made, or an unknown dtype.
    """
    example = with_length(example_of(backbone, example_input), length)
    return compare(
        [
            Configuration("bare", in_dtype(backbone, each), example_in_dtype(example, each))
            for each in dtypes_of(dtypes)
            if each is not None
        ],
        **{**SHORT, **options},
    )
