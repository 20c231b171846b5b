"""Batches without end, that an interrupted run reads again as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from muxwrap.errors import MuxwrapError
from muxwrap.training.distributed import rank


class Stream:
    """Batches without end, and random numbers that depend on the seed, the process and the step alone.

    So a run that passes over its first batches goes on as one that trained on them, and there is no random state to keep.

    Args:
        batches: a data loader or a list, read again and again, or a generator that has enough.
        seed: of everything that is drawn.
        device: where the model draws.
    """

    def __init__(self, batches: Iterable[Any], seed: int, device: torch.device) -> None:
        self.batches = batches
        self.seed = seed
        self.device = device
        self._given = 0
        self._peeked: list[Any] = []
        self._iterator: Iterator[Any] | None = None

    def peek(self) -> Any:
        """Return the first batch, which is given again.

        Raises:
            MuxwrapError: there is none.
        """
        self._peeked = [self._next()]
        return self._peeked[0]

    def take(self) -> Any:
        """Return the next batch, and seed what its step will draw.

        Raises:
            MuxwrapError: a generator has ended.
        """
        value = self._peeked.pop() if self._peeked else self._next()
        self._seed(1)
        self._given += 1
        return value

    def skip(self, count: int) -> None:
        """Pass over batches."""
        for _ in range(count):
            self.take()

    def _next(self) -> Any:
        self._seed(0)
        fresh = self._iterator is None
        if self._iterator is None:
            self._iterator = iter(self.batches)
        try:
            return next(self._iterator)
        except StopIteration:
            if fresh or self._iterator is self.batches:
                raise MuxwrapError(_ended(self._given)) from None
        self._iterator = None
        return self._next()

    def _seed(self, purpose: int) -> None:
        """Seed for one purpose (0 batches, 1 the model) of this step."""
        number = (((self.seed << 16) + rank()) << 32) + 2 * self._given + purpose
        torch.default_generator.manual_seed(number % 2**63)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(number % 2**63)

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Leave the global random state as it was before the block."""
        devices = [] if self.device.type == "cpu" else [self.device]
        kind = "cuda" if self.device.type == "cpu" else self.device.type
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield


def _ended(given: int) -> str:
    if not given:
        return "batches holds no batch; give a data loader with rows, or a generator"
    return (
        f"batches ended after {given} and cannot be read again; give a data loader, a list, or a generator without end"
    )
