"""Batches of like length: a mixture is as long as its longest instance, so short rows should not travel with long ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from muxwrap._util.owners import numbered
from muxwrap.errors import MuxwrapError

WINDOW = 50  # batches that are drawn together and then sorted by length, in training


class LengthBatches(Sampler[list[int]]):
    """Yields batches of row numbers whose lengths are alike, each row once, the longest batch first.

    For ``DataLoader(..., batch_sampler=...)``. Without shuffling all rows are sorted, which is the least padding possible;
    with it rows are drawn at random in windows of 50 batches, sorted there, and the batches are shuffled again, so that
    companions differ from epoch to epoch.

    Args:
        lengths: of every row of the data set.
        rows: rows of a batch; a multiple of n leaves no group incomplete but the last.
        shuffle: for training.
        seed: of the shuffling; call :meth:`set_epoch` before every epoch, as for ``DistributedSampler``.
        group_by: an id for every row: of a tenant, a user, a document. A batch then holds rows of one id, so that no mixture
            holds rows of two; batches of ids with few rows are small. (:meth:`Multiplex.grouped_by` does the same inside of a
            batch of several ids.)

    Raises:
        MuxwrapError: ``rows`` below 1, or ids for other rows.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        group_by: Iterable[Any] | None = None,
    ) -> None:
        if rows < 1:
            raise MuxwrapError(f"LengthBatches(rows={rows}): a batch has at least one row")
        self.lengths = torch.as_tensor(lengths)
        ids = [0] * len(self.lengths) if group_by is None else group_by
        self.owners = numbered(ids, "LengthBatches(group_by=...)")
        if len(self.owners) != len(self.lengths):
            raise MuxwrapError(
                f"LengthBatches(group_by=...): {len(self.owners)} ids for {len(self.lengths)} rows; give one id for each row"
            )
        self.rows = rows
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently in every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int((-(-self.owners.bincount() // self.rows)).sum())

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            batches = [batch for rows in self._of_each(torch.arange(len(self.lengths))) for batch in self._cut(rows)]
            yield from sorted(batches, key=lambda batch: -int(self.lengths[batch[0]]))
            return
        rng = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = self._of_each(torch.randperm(len(self.lengths), generator=rng))
        windows = (window for rows in drawn for window in rows.split(self.rows * WINDOW))
        batches = [batch for window in windows for batch in self._cut(window)]
        yield from (batches[i] for i in torch.randperm(len(batches), generator=rng).tolist())

    def _of_each(self, order: Tensor) -> Sequence[Tensor]:
        """Return the rows of each owner, in the order given."""
        return order[self.owners[order].argsort(stable=True)].split(self.owners.bincount().tolist())

    def _cut(self, rows: Tensor) -> list[list[int]]:
        """Sort rows by length and cut them into batches."""
        order = rows[self.lengths[rows].argsort(descending=True, stable=True)]
        return [batch.tolist() for batch in order.split(self.rows)]

    def in_order(self, answers: Tensor) -> Tensor:
        """Put the concatenated answers of one pass back into the data set's order.

        Args:
            answers: ``[rows of the data set, ...]``, in the order in which this sampler gave the rows.

        Raises:
            MuxwrapError: a shuffled pass has no order to restore, or rows are missing.
        """
        if self.shuffle:
            raise MuxwrapError("in_order(): this sampler shuffles; make one with shuffle=False for evaluation")
        if len(answers) != len(self.lengths):
            raise MuxwrapError(f"in_order(): {len(answers)} answers for {len(self.lengths)} rows; every row needs one")
        order = torch.tensor([row for batch in self for row in batch], device=answers.device)
        restored = torch.empty_like(answers)
        restored[order] = answers
        return restored


def pad_batch(rows: Sequence[Mapping[str, Any]], *, padding: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Collate tokenised rows into a batch as long as its longest row, with an ``attention_mask``.

    Args:
        rows: mappings of equal keys to token lists (padded on the right) or to numbers (stacked, such as labels).
        padding: what fills a key's lists; 0 for those not named. Labels of tokens want ``{"labels": -100}``.

    Returns:
        Tensors ``[rows, longest]`` and ``[rows]``.
    """
    fill = padding or {}
    batch = {}
    for key in rows[0]:
        values = [torch.as_tensor(row[key]) for row in rows]
        batch[key] = torch.stack(values) if values[0].ndim == 0 else pad_sequence(values, True, fill.get(key, 0))
    if "attention_mask" not in batch:
        batch["attention_mask"] = pad_sequence(
            [torch.ones_like(torch.as_tensor(row["input_ids"])) for row in rows], True
        )
    return batch
