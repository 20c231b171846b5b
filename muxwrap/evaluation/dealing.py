"""Which rows share a mixture: random groupings of a whole data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from muxwrap.samplers import LengthBatches

BATCH = 64  # groups per call where nothing else is asked for


def groupings(
    rows: int,
    n: int,
    count: int = 5,
    seed: int = 0,
    *,
    batch: int | None = None,
    lengths: Sequence[int] | Tensor | None = None,
) -> Iterator[list[Tensor]]:
    """Deal all rows of a data set at random to groups of n, several times.

    Every grouping is a list of batches of row numbers. Consecutive rows of a batch share a mixture, and every row is in
    exactly one batch. At most one batch is not a multiple of n, and the wrapped model fills its last group by itself.
    Rows of a bare model do not meet, so for n = 1 there is one grouping, in the rows' own order.

    Args:
        rows: rows of the data set.
        n: instances in a mixture.
        count: groupings.
        seed: of the first grouping; the others have the seeds after it.
        batch: rows per call, rounded up to whole groups; by default 64 groups.
        lengths: of every row. Then companions are of like length: the batches are those of
            :class:`~muxwrap.samplers.LengthBatches`, in random order inside.
    """
    size = n * -(-(batch or BATCH * n) // n)
    if n == 1:
        yield list(torch.arange(rows).split(size))
        return
    for grouping in range(seed, seed + count):
        if lengths is None:
            yield list(torch.randperm(rows, generator=torch.Generator().manual_seed(grouping)).split(size))
        else:
            yield list(_like_lengths(torch.as_tensor(lengths), size, 1000 * grouping))


def _like_lengths(lengths: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    for batch in LengthBatches(lengths.tolist(), size, shuffle=True, seed=seed):
        rows = torch.tensor(batch)
        yield rows[torch.randperm(len(rows), generator=rng)]
