"""An image cut into n cells."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import MuxwrapError


class Cell(NamedTuple):
    """Where an instance lies in the mixture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def embed(self, content: Tensor, height: int, width: int) -> Tensor:
        """Write ``[..., h, w]`` into the cell of an image ``[..., H, W]``, zeros elsewhere."""
        right, bottom = width - self.left - self.width, height - self.top - self.height
        return F.pad(content, (self.left, right, self.top, bottom))


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
        MuxwrapError: the image has fewer pixels than cells somewhere.
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


def side_by_side(contents: list[Tensor], counts: list[int]) -> Tensor:
    """Put the cells' contents ``[g, C, h, w]`` together to one image ``[g, C, H, W]``."""
    left = iter(contents)
    rows = [torch.cat([next(left) for _ in range(count)], dim=-1) for count in counts]
    return torch.cat(rows, dim=-2)


def _shares(n: int, rows: int) -> list[int]:
    return [n // rows + (k < n % rows) for k in range(rows)]
