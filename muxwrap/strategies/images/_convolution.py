"""Convolutions with filters of its own for every index."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def as_weight(filters: Tensor) -> Tensor:
    """Lay filters ``[count, C', C, kh, kw]`` out as one weight.

    In four dimensions they follow ``model.to(memory_format=torch.channels_last)``.
    """
    return rearrange(filters, "count out ... -> (count out) ...")


def as_filters(weight: Tensor, count: int) -> Tensor:
    """Undo :func:`as_weight`: ``[count · C', C, kh, kw] -> [count, C', C, kh, kw]``."""
    return rearrange(weight, "(count out) ... -> count out ...", count=count)


def per_index_conv(
    x: Tensor, filters: Tensor, offsets: Tensor | None = None, *, stride: tuple[int, int] = (1, 1), padding: int = 0
) -> Tensor:
    """Convolve instance i of ``[g, n, C, H, W]`` with ``filters[i]`` ``[C', C, kh, kw]`` to ``[g, n, C', H', W']``."""
    n = x.shape[1]
    made = F.conv2d(
        rearrange(x, "g n c h w -> g (n c) h w"),
        as_weight(filters.to(x.dtype)),
        offsets,
        stride=stride,
        padding=padding,
        groups=n,
    )
    return rearrange(made, "g (n c) h w -> g n c h w", n=n)
