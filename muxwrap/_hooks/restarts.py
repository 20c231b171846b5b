"""Positions that begin again within a row, which say where one document ends and the next begins."""

from __future__ import annotations

from torch import Tensor

from muxwrap._hooks.grouping import demand


def check_restarts(positions: Tensor, kept: Tensor | None) -> None:
    """Refuse positions of rows that share a mixture and begin again at different tokens.

    Layers tell documents apart by them, and what is merged of them is that of no row.

    Args:
        positions: ``[g, n, L]``.
        kept: mask of ones at what is no padding, of the same shape; None where nothing is padded.

    Raises:
        MuxwrapError: they begin again at different tokens.
    """
    if positions.ndim != 3 or positions.shape[1] == 1:
        return
    begins = positions[..., 1:] < positions[..., :-1]
    if kept is not None and kept.shape == positions.shape:
        kept = kept != 0
        begins = begins & kept[..., 1:] & kept[..., :-1]
    problem = (
        f"position_ids {list(positions.flatten(0, 1).shape)} begin again within rows, several documents in a row, and at "
        "different tokens in rows that share a mixture, for which layers read one set of positions: put documents of equal "
        "lengths next to each other, or give one document per row"
    )
    demand((begins == begins[:, :1]).all(), problem)
