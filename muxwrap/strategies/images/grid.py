"""An image cut into n cells, and shrinking to a cell by the mean over areas."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError


class Cell(NamedTuple):
    """Where an instance lies in the mixture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def row_counts(n: int) -> list[int]:
    """Return how many cells stand in each row of a grid of n.

    A row is as high as it has cells, so that all cells of a square image have the same area up to whole pixels, whether
    n is a product or not. Among such grids the one is taken whose longest cell is the least long, even rows first.
    """

    def longest(rows: int) -> tuple[float, bool, int]:
        shapes = [count**2 / n for count in _shares(n, rows)]  # height / width on a square
        return round(max(max(shape, 1 / shape) for shape in shapes), 6), n % rows != 0, -rows

    return _shares(n, min(range(1, n + 1), key=longest))


def cells(counts: list[int], height: int, width: int) -> list[Cell]:
    """Return the cells of an image, row by row.

    Raises:
        MuxwrapError: the image has not a pixel for every cell.
    """
    n = sum(counts)
    tops = [round(height * done / n) for done in accumulate(counts, initial=0)]
    found = []
    for count, (top, bottom) in zip(counts, pairwise(tops), strict=True):
        lefts = [round(width * k / count) for k in range(count + 1)]
        found += [Cell(top, left, bottom - top, right - left) for left, right in pairwise(lefts)]
    if any(cell.height < 1 or cell.width < 1 for cell in found):
        raise MuxwrapError(
            f"n={n} cells in rows of {counts} do not fit into {height} x {width} pixels; take fewer instances, mix where "
            "there are more pixels (mux_at='@input'), or take a strategy that adds full-size codes, such as 'sign'"
        )
    return found


def side_by_side(parts: list[Tensor], counts: list[int]) -> Tensor:
    """Put the cells' contents ``[g, C, h, w]`` together to one image ``[g, C, H, W]``."""
    left = iter(parts)
    rows = [torch.cat([next(left) for _ in range(count)], dim=-1) for count in counts]
    return torch.cat(rows, dim=-2)


def area(out: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix ``[out, size]`` of means over equal stretches of an axis (area interpolation, either way)."""
    edges = torch.arange(out + 1, device=like.device, dtype=torch.float32) * (size / out)
    pixels = torch.arange(size, device=like.device, dtype=torch.float32)
    low = torch.maximum(edges[:-1, None], pixels)
    high = torch.minimum(edges[1:, None], pixels + 1)
    return ((high - low).clamp(min=0) * (out / size)).to(like.dtype)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize ``[..., H, W]`` by area; what has the size already stays as it is."""
    if x.shape[-2] != height:
        x = area(height, x.shape[-2], x) @ x
    return x if x.shape[-1] == width else x @ area(width, x.shape[-1], x).T


def _shares(n: int, parts: int) -> list[int]:
    return [n // parts + (k < n % parts) for k in range(parts)]
