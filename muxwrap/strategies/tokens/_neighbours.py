"""Which tokens of an instance are pooled together: runs of neighbours in a text, windows of patches in an image."""

from __future__ import annotations

import torch
from torch import Tensor


def runs(length: int, keep: int, size: int, device: torch.device) -> Tensor:
    """Return the place of every token, ``[L]``: ``size`` neighbours share one.

    Args:
        length: L.
        keep: the first tokens, which stay alone.
        size: of a run.
        device: of the places.
    """
    position = torch.arange(length, device=device)
    return torch.where(position < keep, position, keep + (position - keep).div(size, rounding_mode="floor"))


def most_runs(length: int, keep: int, size: int) -> int:
    """Return how many places :func:`runs` makes of so many tokens."""
    return min(length, keep) + -(-max(length - keep, 0) // size)


def masked_runs(real: Tensor, alone: Tensor | None, keep: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the place of every token, ``[..., L]``, -1 at padding, and how many there are, ``[...]``.

    Neighbours are those that stand next to each other when padding is left out. A token that stays alone also ends a run.

    Args:
        real: ``[..., L]`` of bool: what is not padding.
        alone: ``[..., L]`` of bool: tokens that are not pooled, besides the first ones.
        keep: the first real tokens, which stay alone.
        size: of a run.
    """
    single = real & (real.cumsum(-1) <= keep)
    if alone is not None:
        single = single | (real & alone)
    pooled = real & ~single
    count = pooled.cumsum(-1)
    before = torch.where(single, count, 0).cummax(-1).values  # tokens that were pooled before the last single one
    starts = single | (pooled & ((count - before - 1) % size == 0))
    return torch.where(real, starts.cumsum(-1) - 1, -1), starts.sum(-1)


def windows(grid: tuple[int, int], keep: int, size: int, device: torch.device) -> tuple[Tensor, int]:
    """Return the place of every token, ``[keep + H·W]``, and how many there are: a window of patches shares one.

    Args:
        grid: H, W; the patches are the last tokens, row by row.
        keep: the tokens before them, which stay alone.
        size: patches in a window, whose sides are as equal as its divisors allow; those at the edges are smaller.
        device: of the places.
    """
    height = next(side for side in range(int(size**0.5), 0, -1) if size % side == 0)
    width = size // height
    across = -(-grid[1] // width)
    rows, columns = (torch.arange(side, device=device) for side in grid)
    rows, columns = rows.div(height, rounding_mode="floor"), columns.div(width, rounding_mode="floor")
    patches = (rows[:, None] * across + columns).flatten() + keep
    return torch.cat([torch.arange(keep, device=device), patches]), keep + -(-grid[0] // height) * across
