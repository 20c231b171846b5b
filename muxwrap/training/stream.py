"""Batches without end, and random numbers that depend on the seed and the step alone.

The random state is set before a batch is drawn and again before its step: how much a model draws, or whether it is measured
in between, changes neither the order of the batches nor later steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from muxwrap.errors import MuxwrapError


def endless(batches: Iterable[Any], seed: int, device: torch.device) -> Iterator[Any]:
    """Yield the batches of an iterable, which is read again and again.

    Args:
        batches: a data loader or a list, or a generator that has enough.
        seed: of everything that ``batches`` draws.
        device: of the model.

    Raises:
        MuxwrapError: there is no batch, or a generator has ended.
    """
    step = 0
    while True:
        first = step
        _set_random_state(seed, 2 * step, device)
        for batch in batches:
            yield batch
            step += 1
            _set_random_state(seed, 2 * step, device)
        if step == first or isinstance(batches, Iterator):
            raise MuxwrapError(_ended(step))


def seed_step(seed: int, step: int, device: torch.device) -> None:
    """Set the random state for what a model draws in a step, counted from 0."""
    _set_random_state(seed, 2 * step + 1, device)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Leave the global random state as it was before the block."""
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=devices, device_type=kind):
        yield


def _set_random_state(seed: int, number: int, device: torch.device) -> None:
    # A processor's generator reads the lower 32 bits, so the seed has to be in them; this odd factor spreads seeds over all.
    state = (seed * 0x9E3779B1 + number) % 2**32
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(state)


def _ended(step: int) -> str:
    if not step:
        return "batches is empty; give a data loader with rows, or a generator"
    return (
        f"batches ended after {step} and cannot be read again; give a data loader, a list, or a generator without end"
    )
