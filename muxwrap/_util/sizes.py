"""Sizes and axes as tools that record a model need them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor


def fixed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return sizes as plain numbers, also where ``torch.jit.trace`` records, to which they are tensors."""
    if not torch.jit.is_tracing():
        return tuple(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # that they are fixed is meant
        return tuple(int(size) for size in shape)


def moved(x: Tensor, source: int, destination: int) -> Tensor:
    """Return the tensor with one axis moved; the older ONNX exporter does not count axes from the end."""
    return x.movedim(source % x.ndim, destination % x.ndim)
