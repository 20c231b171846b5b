"""Rows that would spoil their mixture: NaN, infinity, or numbers beyond what the model is known to take.

A mixture is a sum, so one such row reaches every answer of its mixture. It is noticed where rows are mixed: there also what a
stem made of it shows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap._hooks.call import Call
from muxwrap._hooks.grouping import group, ungroup
from muxwrap._util.meta import is_meta
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site

_IN_COMPILED_CODE = (
    "check_finite: NaN, infinity or numbers beyond model.largest where rows are mixed; they would spoil every row of their "
    "groups: drop them first (without torch.compile the error names the rows)"
)


def good_rows(x: Tensor, largest: float | None) -> Tensor:
    """Return which rows hold numbers alone, none of them beyond a bound: ``[B, ...] -> [B]``.

    Comparisons with NaN are false, and infinity is beyond the largest number of the dtype. (The largest and the smallest
    number of a row are found in a quarter of the time that ``isfinite`` takes.)
    """
    bound = torch.finfo(x.dtype).max if largest is None else largest
    rows = x.detach().unsqueeze(-1)  # [B] holds one number per row
    axes = tuple(range(1, rows.ndim))
    return (rows.amax(axes) <= bound) & (rows.amin(axes) >= -bound)


def keep_out(call: Call, site: Site, x: Tensor) -> Tensor | None:
    """Note which rows are bad, and return which row is mixed in the place of each: ``[B]``, or None for its own.

    It is the first good row of the same owner, as an absent row is replaced by one of the batch. In training a bad row is
    refused: its answer would reach the loss.

    Raises:
        MuxwrapError: there is one, in training or where it is not to be isolated.
    """
    good = good_rows(x, call.model.largest)
    if call.model.check_finite == "raise" or call.model.training:
        _refuse(call, site, good)
        return None
    if not _is_traced(good) and good.device.type == "cpu" and bool(good.all()):
        return None  # on an accelerator it would wait for the answer
    owners = None if call.apart is None else call.apart.owners_of(call.model.copies).to(x.device)
    if call.id_rows is not None:  # token ids were inserted into rows that had been dealt already
        owners = None if owners is None else group(owners, call.n, call.order).flatten()
        bad = ~ungroup(good.unflatten(0, (-1, call.n)), call.id_rows, call.order)
    else:
        good = good if call.bad is None else good & ~call.bad
        bad = ~good
    call.bad = bad if call.bad is None else call.bad | bad
    return _instead(good, owners)


def without_answer(call: Call, rows: Tensor) -> Tensor:
    """Return separated rows with NaN for those that were kept out: ``[B, ...]``."""
    if call.bad is None:
        return rows
    return rows.masked_fill(call.bad.view(-1, *[1] * (rows.ndim - 1)), torch.nan)


def _instead(good: Tensor, owners: Tensor | None) -> Tensor:
    own = torch.arange(good.shape[0], device=good.device)
    none = own.new_full((), good.shape[0])
    found = torch.where(good, own, none)
    if owners is None:
        first = found.amin().expand_as(own)
    else:  # there are at most as many owners as rows
        first = none.expand_as(own).clone().scatter_reduce(0, owners, found, "amin")[owners]
    return torch.where(good | (first == none), own, first)


def _refuse(call: Call, site: Site, good: Tensor) -> None:
    if torch.compiler.is_compiling():
        torch._assert_async(good.all(), _IN_COMPILED_CODE)  # values are not known before the graph runs
    elif not _is_traced(good) and not bool(good.all()):
        largest, bad = call.model.largest, (~good).nonzero().flatten() // call.model.copies
        beyond = (
            "NaN or infinity" if largest is None else f"NaN, infinity or numbers beyond model.largest = {largest:g}"
        )
        raise MuxwrapError(
            f"{beyond} in rows {bad.unique().tolist()} at the {site}; they would spoil every row of their groups: drop them "
            "first"
        )


def _is_traced(good: Tensor) -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or is_meta(good)
