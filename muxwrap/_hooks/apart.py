"""Whose the rows are: rows of different owners never share a mixture. Said around a call, in the thread that makes it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.owners import numbered

_local = threading.local()


class Apart:
    """The owners of a batch's rows. Rows are dealt sorted by owner, and an owner's last mixture is filled with rows of its own.

    Args:
        ids: of every row's owner: anything that can be a key of a dict.
        sizes: rows per mixture that may be asked for. What depends on the owners alone is computed here, so that compiled
            code finds tensors of known sizes.

    Raises:
        MuxwrapError: there are no ids, or one cannot be compared.
    """

    def __init__(self, ids: Iterable[Any], sizes: Iterable[int]) -> None:
        self.owners = numbered(ids, "grouped_by(ids)")
        self._sorted = self.owners.argsort(stable=True)
        self._ranks = {n: _ranks(self.owners, n) for n in sizes}

    def order(self, n: int, copies: int, shuffled: Tensor | None) -> Tensor:
        """Return which row stands at each slot of the mixtures, n rows to each.

        Args:
            n: rows per mixture.
            copies: how often every row follows itself.
            shuffled: the rows in random order, ``[B]``; by default their own is kept.
        """
        by_owner = self._sorted if shuffled is None else shuffled[self.owners.to(shuffled.device)[shuffled].argsort()]
        order = by_owner[self._ranks[n].to(by_owner.device)]
        if copies == 1:
            return order
        return (order.unsqueeze(1) * copies + torch.arange(copies)).flatten()

    def owners_of(self, copies: int) -> Tensor:
        """Return the owner of every row, each ``copies`` times."""
        return self.owners.repeat_interleave(copies)


def _ranks(owners: Tensor, n: int) -> Tensor:
    """Return for every slot the place of its row among the rows sorted by owner; each owner's rows begin anew when they end."""
    counts = owners.bincount()
    filled = -(-counts // n) * n
    within = torch.arange(int(filled.sum())) - (filled.cumsum(0) - filled).repeat_interleave(filled)
    return (counts.cumsum(0) - counts).repeat_interleave(filled) + within % counts.repeat_interleave(filled)


@contextmanager
def keeping(key: object, apart: Apart) -> Iterator[None]:
    """Keep the owners' rows apart in the calls of the model with this key inside a block, in this thread."""
    outer = getattr(_local, "blocks", ())
    _local.blocks = (*outer, (key, apart))
    try:
        yield
    finally:
        _local.blocks = outer


def apart_in(key: object) -> Apart | None:
    """Return the owners that were said last for the model with this key, in this thread."""
    for of, apart in reversed(getattr(_local, "blocks", ())):
        if of is key:
            return apart
    return None
