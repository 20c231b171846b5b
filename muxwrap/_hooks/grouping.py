"""Batch to groups and back: which rows share a mixture, how an incomplete group is filled, how masks merge.

Consecutive rows share a mixture: row r is instance ``r % n`` of group ``r // n``. In an ``order`` of the rows, row
``order[r]`` is. An order holds every row, some more than once: a row's answer is that of its first place.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from muxwrap._util.meta import is_meta
from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError


def group(x: Tensor, n: int, order: Tensor | None = None) -> Tensor:
    """Group rows, in their own order or in another one: ``[B, ...] -> [ceil(B / n), n, ...]``.

    The last group is filled with the batch's own first rows: real inputs keep a mixture in the distribution that the
    trunk was trained on, where zeros would not.
    """
    x = x if order is None else x[order]
    missing = -fixed(x.shape)[0] % n
    if missing:
        fill = torch.arange(missing, device=x.device) % x.shape[0]
        x = torch.cat([x, x[fill]])
    return rearrange(x, "(g n) ... -> g n ...", n=n)


def ungroup(x: Tensor, rows: int, order: Tensor | None = None) -> Tensor:
    """Return the rows of ``[g, n, ...]`` in the batch's order: the filling is cut off, and an order of grouping undone."""
    flat = rearrange(x, "g n ... -> (g n) ...")
    return flat[:rows] if order is None else flat[places_in(order, rows)]


def places_in(order: Tensor, rows: int) -> Tensor:
    """Return where each of the rows stands first in an order, ``[B]``."""
    if fixed(order.shape) == fixed((rows,)):
        return order.argsort()
    places = torch.arange(order.shape[0], device=order.device)
    return places.new_full((rows,), order.shape[0]).scatter_reduce(0, order, places, "amin")


LEFT_OUT = -1e3
"""What a mask adds to the scores of a position that is left out lies below."""


def merge_masks(grouped: Tensor, prefix: int) -> Tensor:
    """Merge masks ``[g, n, ...]`` into ``[g, ...]``: a position counts if it does for any instance of the group.

    The largest value is the union for masks of 0 and 1 and for additive ones (0 and -inf) alike. A prefix is attended by
    all: the mask is continued to the left by its largest value.
    """
    merged = grouped.any(1) if grouped.dtype == torch.bool else grouped.amax(1)
    if not prefix:
        return merged
    if merged.is_floating_point():
        return F.pad(merged, (prefix, 0), value=0.0 if merged.ndim > 2 else 1.0)
    return F.pad(merged, (prefix, 0), value=1)


def differ_in_what_is_left_out(grouped: Tensor) -> Tensor:
    """Return whether scores ``[g, n, ...]`` that are added to those of attention differ in what is left out alone.

    They are then masks, perhaps with a bias that all rows have; others are a bias of each row.
    """
    return ((grouped == grouped.amax(1, keepdim=True)) | (grouped < LEFT_OUT)).all()


def demand(agree: Tensor, problem: str) -> None:
    """Refuse rows that must not share a mixture; in a compiled graph the values are known when it runs.

    Raises:
        MuxwrapError: ``agree`` is false; in a compiled graph it is a RuntimeError.
    """
    if torch.compiler.is_compiling():
        torch._assert_async(agree, problem)
    elif not torch.jit.is_tracing() and not is_meta(agree) and not bool(agree):
        raise MuxwrapError(problem)


def merge_side_inputs(name: str, grouped: Tensor, prefix: int) -> Tensor:
    """Merge what a trunk gets about every row besides its tokens: ``[g, n, L, ...] -> [g, prefix + L, ...]``.

    Boxes on a page become their mean. Positions and types mostly agree; where they do not, the largest counts, which is
    the position of a row without padding on the left.
    """
    if name == "bbox":
        merged = grouped.sum(1).div(grouped.shape[1], rounding_mode=None if grouped.is_floating_point() else "floor")
    else:
        merged = grouped.amax(1)
    if not prefix:
        return merged
    if name != "position_ids":
        return torch.cat([merged.new_zeros(merged[:, :1].shape).expand(-1, prefix, *merged.shape[2:]), merged], 1)
    before = torch.arange(prefix, device=merged.device, dtype=merged.dtype).expand(merged.shape[0], -1)
    return torch.cat([before, merged + prefix], 1)
