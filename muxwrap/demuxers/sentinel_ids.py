"""Sentinel ids: token ids that the published text models put into every instance before it is embedded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor

from muxwrap.errors import MuxwrapError


def check_sentinel_id(name: str, sentinel_id: int | None) -> int | None:
    """Return the id that overwrites token 0, or refuse it.

    Raises:
        MuxwrapError: it is not a token id.
    """
    if sentinel_id is not None and (
        isinstance(sentinel_id, bool) or not isinstance(sentinel_id, int) or sentinel_id < 0
    ):
        raise MuxwrapError(f"{name}(sentinel_id={sentinel_id!r}): it is a token id, an int >= 0, or None")
    return sentinel_id


def overwrite_first(ids: Tensor, sentinel_id: int | None) -> Tensor:
    """Return the ids ``[g, n, L]`` with token 0 of every instance replaced; the caller's own tensor is not changed."""
    if sentinel_id is None:
        return ids
    return torch.cat([torch.full_like(ids[..., :1], sentinel_id), ids[..., 1:]], dim=-1)


def check_sentinel_ids(n: int, ids: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return the three ids of a published prefix, or refuse them.

    Raises:
        MuxwrapError: there are not three, or an index would get a negative id.
    """
    if ids is None:
        return None
    if (
        not isinstance(ids, Sequence)
        or len(ids) != 3
        or not all(isinstance(i, int) and i >= 0 for i in ids)
        or ids[0] < n - 1
    ):
        raise MuxwrapError(
            f"index(n={n}, sentinel_ids={ids!r}): give the ids (of index 0, filler, after the prefix), all >= 0; index i "
            "has the id of index 0 less i"
        )
    return ids[0], ids[1], ids[2]


def prepend(ids: Tensor, sentinel_ids: tuple[int, int, int]) -> Tensor:
    """Put n + 1 tokens before every instance: ``[g, n, L] -> [g, n, n + 1 + L]``."""
    first, filler, last = sentinel_ids
    groups, n = ids.shape[:2]
    index = torch.arange(n, device=ids.device, dtype=ids.dtype)
    prefix = torch.where(torch.eye(n, device=ids.device, dtype=torch.bool), first - index, filler)
    prefix = torch.cat([prefix, torch.full_like(prefix[:, :1], last)], dim=1)
    return torch.cat([repeat(prefix, "n l -> g n l", g=groups), ids], dim=2)
