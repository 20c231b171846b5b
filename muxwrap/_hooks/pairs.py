"""Masks over pairs of positions ``[rows, ..., queries, keys]``: rows of a mixture may differ in their padding alone."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap._hooks.grouping import LEFT_OUT, demand


def check_pairs(name: str, grouped: Tensor) -> None:
    """Refuse masks ``[g, n, ..., queries, keys]`` of rows that share a mixture and differ in more than their padding.

    Args:
        name: of what is given the mask, as what.
        grouped: True or 1 where a pair is let through; or what is added to scores.

    Raises:
        MuxwrapError: they do.
    """
    if grouped.ndim < 4:
        return
    problem = (
        f"{name} [rows, {', '.join(map(str, grouped.shape[2:]))}], which differs between rows that share a mixture in more "
        "than their padding (edges of graphs, several documents in a row, prefixes), and what all of them let through together "
        "is that of none: put rows that agree in it next to each other, or mix after it was read with mux_at="
    )
    demand(differ_in_padding(grouped), problem)


def differ_in_padding(grouped: Tensor) -> Tensor:
    """Return whether each of the masks ``[g, n, ..., queries, keys]`` is what they allow together, less its own padding.

    It is not where a mask says more of its row: the edges of its graph, documents in one sequence, a prefix that is read both
    ways. What they allow together is then that of no row.
    """
    kept = _kept(grouped)
    together = kept.any(1, keepdim=True)
    whole = kept.all(-1, keepdim=True)  # also padding, which is let see everything lest there be nothing to see
    keys = (kept & ~whole).any(-2, keepdim=True)
    queries = kept.any(-1, keepdim=True)
    return ((kept == (together & keys & queries)) | whole).all()


def _kept(mask: Tensor) -> Tensor:
    """Return which pairs a mask of True, of 1 and 0, or of what is added to scores lets through."""
    if not mask.is_floating_point():
        return mask != 0
    return torch.where((mask > LEFT_OUT).all(), mask != 0, mask > LEFT_OUT)
