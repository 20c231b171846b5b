"""Token ids that the published text models put into every instance before it is embedded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError


def check_id(name: str, first_id: int | None) -> int | None:
    """Return the id that overwrites token 0, or refuse it.

    Raises:
        MuxwrapError: it is no token id.
    """
    if first_id is not None and (isinstance(first_id, bool) or not isinstance(first_id, int) or first_id < 0):
        raise MuxwrapError(f"{name}(first_id={first_id!r}): it is a token id, an int >= 0, or None")
    return first_id


def overwrite_first(ids: Tensor, first_id: int | None) -> Tensor:
    """Return the ids ``[g, n, L]`` with token 0 of every instance replaced; the caller's own tensor stays as it is."""
    if first_id is None:
        return ids
    return torch.cat([torch.full_like(ids[..., :1], first_id), ids[..., 1:]], dim=-1)


def check_prefix_ids(n: int, ids: Sequence[int] | None) -> tuple[int, int, int] | None:
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
            f"index(n={n}, prefix_ids={ids!r}): give the ids (of index 0, filler, behind the prefix), all >= 0; index i "
            "has the id of index 0 less i"
        )
    return ids[0], ids[1], ids[2]


def prepend(ids: Tensor, marks: tuple[int, int, int]) -> Tensor:
    """Put n + 1 tokens before every instance: ``[g, n, L] -> [g, n, n + 1 + L]``."""
    first, filler, last = marks
    n = ids.shape[1]
    index = torch.arange(n, device=ids.device, dtype=ids.dtype)
    prefix = torch.where(torch.eye(n, device=ids.device, dtype=torch.bool), first - index, filler)
    prefix = torch.cat([prefix, torch.full_like(prefix[:, :1], last)], dim=1)
    return torch.cat([prefix.expand(ids.shape[0], -1, -1), ids], dim=2)
