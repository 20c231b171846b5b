"""Resizing by the mean over areas, as matrices: exact, linear, and with an adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap._util.sizes import fixed


def area(out: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix ``[out, size]`` of means over equal stretches of an axis (area interpolation, either way)."""
    edges = torch.arange(out + 1, device=like.device, dtype=torch.float32) * (size / out)
    pixels = torch.arange(size, device=like.device, dtype=torch.float32)
    low = torch.maximum(edges[:-1, None], pixels)
    high = torch.minimum(edges[1:, None], pixels + 1)
    return ((high - low).clamp(min=0) * (out / size)).to(like.dtype)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize ``[..., H, W]`` by area; an axis of the right size is not touched."""
    rows, columns = fixed(x.shape[-2:])
    if rows != height:
        x = area(height, rows, x) @ x
    return x if columns == width else x @ area(width, columns, x).T
