"""Predict the speed-up before training: a roofline over every operation of the bare and of the multiplexed call."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from muxwrap._util.examples import quiet, run, with_rows
from muxwrap._util.nested import tensors_in
from muxwrap.defaults import DemuxChoice, StrategyChoice, image_pixels
from muxwrap.multiplex import Multiplex
from muxwrap.sites import Choice, locate
from muxwrap.throughput.dtypes import dtype_of, dtypes_of, example_in_dtype, in_dtype
from muxwrap.throughput.timing import synchronize, with_length

_SIZES = tuple(2**k for k in range(6, 26, 3))  # numbers in the tensors that memory is measured with
_LOOKUPS = {torch.ops.aten.embedding, torch.ops.aten.index_select, torch.ops.aten.index, torch.ops.aten.gather}


@dataclass(frozen=True)
class Machine:
    """What a device needs for an operation: the two sides of a roofline.

    Args:
        flops: floating-point operations per second of a large matrix product.
        traffic: pairs of bytes and the seconds that an elementwise operation needs to read and write them, ascending; the
            first is the price of starting an operation, the later ones lie in the caches and beyond.
    """

    flops: float
    traffic: tuple[tuple[float, float], ...]

    def seconds(self, flops: float, moved: float) -> float:
        """Return the time of an operation that computes ``flops`` and moves ``moved`` bytes."""
        return max(flops / self.flops, self._moving(moved))

    def _moving(self, moved: float) -> float:
        at = max(1, min(bisect_left(self.traffic, (moved,)), len(self.traffic) - 1))
        (less, fast), (more, slow) = self.traffic[at - 1 : at + 1]
        return max(self.traffic[0][1], fast + (moved - less) * (slow - fast) / (more - less))


def predict(
    backbone: nn.Module,
    n: int,
    length: int | None = None,
    *,
    example_input: Any = None,
    dtype: torch.dtype | str | None = None,
    strategy: StrategyChoice = None,
    demux: DemuxChoice = None,
    mux_at: Choice = None,
    demux_at: Choice = None,
    mixtures: int = 4,
    machine: Machine | None = None,
) -> float:
    """Predict how many times more instances per second the multiplexed model does, from one call of either.

    Nothing is timed but the machine. An operation counts as the larger of the time of its arithmetic and that of its
    memory traffic (:class:`Machine`), and the speed-up is the ratio of the sums, which is
    ``N B(L) / (B(L') + N L (c_mux + c_demux) + N c_head)`` with every term counted, stem included.

    Args:
        backbone: a bare model.
        n: instances in a mixture.
        length: tokens of an instance, for text; by default the example's.
        example_input: as in :func:`muxwrap.wrap`.
        dtype: of weights and inputs, bare and multiplexed; by default the backbone's own.
        strategy: as in :func:`muxwrap.wrap`.
        demux: as in :func:`muxwrap.wrap`.
        mux_at: as in :func:`muxwrap.wrap`.
        demux_at: as in :func:`muxwrap.wrap`.
        mixtures: sequences that the trunk sees in a call, bare and multiplexed.
        machine: the device's rates in that dtype; by default they are measured, in about a second.

    Returns:
        The speed-up over the bare model of the same dtype.

    Raises:
        MuxwrapError: what :func:`muxwrap.wrap` refuses, or an unknown dtype.
    """
    (wanted,) = dtypes_of(dtype)
    sites, example, *_ = locate(
        backbone, example_input, mux_at=mux_at, demux_at=demux_at, pixels=image_pixels(strategy, n)
    )
    backbone, example = in_dtype(backbone, wanted), example_in_dtype(with_length(example, length), wanted)
    rates = machine or this_machine(next(backbone.parameters()).device.type, dtype_of(backbone))
    bare = _seconds(backbone, with_rows(example, mixtures), rates) / mixtures
    model = Multiplex(backbone, n, strategy, demux, sites=sites)
    try:
        mixed = _seconds(model, with_rows(example, mixtures * n), rates) / (mixtures * n)
    finally:
        model.detach()
    return bare / mixed


def _seconds(module: nn.Module, example: Any, machine: Machine) -> float:
    counter = _Roofline(machine)
    with quiet(module), counter:  # not inference_mode, in which composite operations would arrive whole
        run(module, example)
    return counter.seconds


class _Roofline(TorchDispatchMode):
    """Adds up what every operation should take."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view:
            count = flop_registry.get(func.overloadpacket)
            flops = count(*args, **kwargs, out_val=out) if count else 0
            # Of a table only what is looked up is read, as much as comes out.
            moving = (out, out, args[1:]) if func.overloadpacket in _LOOKUPS else (args, kwargs, out)
            moved = sum(t.numel() * t.element_size() for t in tensors_in(moving))
            self.seconds += self.machine.seconds(flops, moved)
        return out


@cache
def this_machine(device: str, dtype: torch.dtype = torch.float32) -> Machine:
    """Measure the rates of a device for numbers of a dtype."""
    draw = partial(torch.randn, device=device, dtype=dtype)
    a, b, numbers = draw(512, 768), draw(768, 3072), draw(3, _SIZES[-1])
    with torch.inference_mode():
        product = _fastest(lambda: a @ b)
        traffic = []
        for size in _SIZES:
            x, y, z = numbers[:, :size]
            calls = max(1, 2**15 // size)  # so many that a clock's steps do not matter
            moved = 3.0 * numbers.element_size() * size
            traffic.append((moved, _fastest(partial(_add, x, y, z, calls)) / calls))
    return Machine(2 * 512 * 768 * 3072 / product, tuple(traffic))


def _add(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, calls: int) -> None:
    for _ in range(calls):
        torch.add(x, y, out=z)


def _fastest(call: Callable[[], object], least: float = 0.1) -> float:
    """Return the shortest time of a call over ``least`` seconds: on a busy machine most calls are interrupted."""
    times: list[float] = []
    while sum(times) < least:
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
