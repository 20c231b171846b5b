"""One configuration and its times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from muxwrap._util.examples import Example, run, with_rows
from muxwrap._util.nested import tensors_in
from muxwrap.multiplex import Multiplex
from muxwrap.throughput.dtypes import dtype_name, dtype_of
from muxwrap.throughput.memory import activation_bytes
from muxwrap.throughput.report import Cell

TRIAL = 0.15  # seconds, at least, that a batch size is tried for
WORSE = 1.2  # a batch size that costs this much more per instance ends the search for a better one


class Configuration:
    """A model to be timed.

    Args:
        name: its name in the report.
        model: bare, or wrapped and possibly detached: it is attached for its own calls.
        example: a call of the model, one row is enough; rows are repeated.
        call: what to call instead of the model, such as ``torch.compile(model)``.
    """

    def __init__(self, name: str, model: nn.Module, example: Any, call: Any = None) -> None:
        self.name = name
        self.model = model
        self.example = example
        self.call = model if call is None else call
        self.n = model.n if isinstance(model, Multiplex) else 1
        self.dtype = dtype_of(model)
        self.rows = self.n
        self.times: list[float] = []

    def __str__(self) -> str:
        return f"{self.name} in {dtype_name(self.dtype)}"

    def choose_rows(self, mixtures: Sequence[int], train: bool) -> None:
        """Keep the number of rows at which an instance is cheapest; stop where more rows cost clearly more."""
        best = float("inf")
        for size in mixtures:
            # The least of three: whatever else the machine does only ever makes a call longer.
            cost = min(self._calls(size * self.n, train, least=TRIAL, count=3)) / (size * self.n)
            if cost < best:
                best, self.rows = cost, size * self.n
            elif cost > WORSE * best:
                break

    def round(self, seconds: float, train: bool) -> None:
        """Run for at least ``seconds`` and keep the median time of a call."""
        self.times.append(median(self._calls(self.rows, train, least=seconds, count=1)))

    def cell(self, bare: Configuration, first: Configuration, train: bool) -> Cell:
        """Return what was measured, against the bare model and against the first configuration of the run."""
        model = self.model if isinstance(self.model, Multiplex) else None
        batch = with_rows(self.example, self.rows)
        with self._attached(train), FlopCounterMode(display=False) as counter:
            self._once(batch, train, self.model)
        with self._attached(train):
            memory = activation_bytes(self.model, lambda: self._once(batch, train, self.model))
        return Cell(
            name=self.name,
            n=self.n,
            dtype=dtype_name(self.dtype),
            strategy=None if model is None else model.strategy.name,
            demux=None if model is None else model.demuxer.name,
            rows=self.rows,
            instances_per_second=self.rows / median(self.times),
            ratio_to_bare=self._ratio_to(bare),
            ratio_to_first=self._ratio_to(first),
            latency=median(self.times),
            activation_bytes=memory / self.rows,
            flops=counter.get_total_flops() / self.rows,
            added_parameters=0 if model is None else model.added_parameters(),
            rounds=len(self.times),
        )

    def _ratio_to(self, other: Configuration) -> float:
        """Return how many times more instances per second, the median over rounds."""
        return median((b / other.rows) / (t / self.rows) for t, b in zip(self.times, other.times, strict=True))

    def _calls(self, rows: int, train: bool, least: float, count: int) -> list[float]:
        """Return the times of at least ``count`` calls and ``least`` seconds, after one that is not counted."""
        batch = with_rows(self.example, rows)
        with self._attached(train):
            self._once(batch, train, self.call)
            times: list[float] = []
            while len(times) < count or sum(times) < least:
                times.append(self._once(batch, train, self.call))
        return times

    @contextmanager
    def _attached(self, train: bool) -> Iterator[None]:
        self.model.train(train)
        detached = isinstance(self.model, Multiplex) and not self.model.attached
        if detached:
            self.model.attach()  # type: ignore[operator]
        try:
            with nullcontext() if train else torch.inference_mode():
                yield
        finally:
            if detached:
                self.model.detach()  # type: ignore[operator]

    def _once(self, batch: Any, train: bool, call: Any) -> float:
        synchronize()
        start = time.perf_counter()
        output = run(call, batch)
        if train:
            sums = [t.float().sum() for t in tensors_in(output) if t.requires_grad]
            torch.stack(sums).sum().backward()
        synchronize()
        taken = time.perf_counter() - start
        self.model.zero_grad(set_to_none=True)
        return taken


def synchronize() -> None:
    """Wait for the accelerator, where there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def with_length(example: Any, length: int | None) -> Any:
    """Return a text example with ``length`` tokens: its own, repeated or cut; None leaves it as it is."""
    if length is None:
        return example
    if isinstance(example, Example):
        return replace(example, call=with_length(example.call, length))
    if isinstance(example, dict):
        return {key: with_length(value, length) for key, value in example.items()}
    if not isinstance(example, torch.Tensor) or example.ndim != 2 or example.is_floating_point():
        return example
    return example[:, torch.arange(length, device=example.device) % example.shape[1]]
