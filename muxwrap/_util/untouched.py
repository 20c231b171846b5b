"""A model that is run to be looked at: whatever its forward writes down on itself is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from muxwrap._util.meta import is_meta


@contextmanager
def untouched(backbone: nn.Module) -> Iterator[None]:
    """Leave the attributes, buffers and frozen parameters of every module as they were.

    Those are counters, queues, hidden states, caches, and averages of other parameters. A module that became
    another class inside, as lazy ones do, is not taken back.
    """
    attributes = [(module, type(module), dict(vars(module))) for module in backbone.modules()]
    buffers = [(module._buffers, dict(module._buffers)) for module in backbone.modules()]
    values = [(value, _version(value), value.detach().clone()) for value in _kept(backbone)]
    try:
        yield
    finally:
        for module, cls, own in attributes:
            if type(module) is cls:
                _take_back(module, own)
        for held, tensors in buffers:
            if held.keys() == tensors.keys():
                held.update(tensors)
        with torch.no_grad():
            for value, version, before in values:
                if _version(value) != version and value.shape == before.shape:
                    value.copy_(before)


def _kept(backbone: nn.Module) -> Iterator[Tensor]:
    """Yield what a forward may write; a large model's frozen weights, or quantised ones, are not copied."""
    frozen = [value for value in backbone.parameters() if not value.requires_grad and not is_lazy(value)]
    if sum(value.numel() for value in frozen) > LARGEST:
        frozen = []
    for value in (*backbone.buffers(), *frozen):
        if not is_lazy(value) and not is_meta(value) and value.layout == torch.strided and value.numel() <= LARGEST:
            yield value


LARGEST = 2**25


def _version(value: Tensor) -> int | None:
    """Return how often a tensor was written; of inference tensors nobody counts it."""
    return None if value.is_inference() else value._version


def _take_back(module: nn.Module, before: dict[str, Any]) -> None:
    now = vars(module)
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, value in before.items():
        if now.get(name, now) is not value:
            now[name] = value
