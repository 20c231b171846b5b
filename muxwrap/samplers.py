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

    In several processes each takes its part, as of a ``DistributedSampler``: as many batches of the same sizes in every
    process, rows that no other process has, all rows together, and some of them twice if their number is not a multiple of
    the processes'. The batches of one step are of like length, so that no process waits for another.

    Args:
        lengths: of every row of the data set.
        rows: rows of a batch, in each process; a multiple of n leaves no group incomplete but the last.
        shuffle: for training.
        seed: of the shuffling, the same in all processes; call :meth:`set_epoch` before every epoch, as for
            ``DistributedSampler``.
        num_replicas: number of processes: ``torch.distributed.get_world_size()``. One by default; a loader that Accelerate or
            Lightning divides among processes has to come from a sampler that does not.
        rank: of this process: ``torch.distributed.get_rank()``.
        group_by: an id for every row: of a tenant, a user, a document. A batch then holds rows of one id, so that no mixture
            holds rows of two; batches of ids with few rows are small. (:meth:`Multiplex.grouped_by` does the same inside of a
            batch of several ids.)

    Raises:
        MuxwrapError: ``rows`` or ``num_replicas`` below 1, a rank that is none of the processes', no rows at all for several
            processes, or ids for other rows.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        group_by: Iterable[Any] | None = None,
    ) -> None:
        if rows < 1:
            raise MuxwrapError(f"LengthBatches(rows={rows}): a batch has at least one row")
        if not 0 <= rank < num_replicas:
            raise MuxwrapError(
                f"LengthBatches(num_replicas={num_replicas}, rank={rank}): ranks count from 0 to num_replicas - 1; give "
                "torch.distributed.get_world_size() and get_rank()"
            )
        if num_replicas > 1 and not len(lengths):
            raise MuxwrapError(f"LengthBatches(lengths=[], num_replicas={num_replicas}): no rows; give their lengths")
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
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently in every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return int((-(-self.owners.bincount() // (self.rows * self.num_replicas))).sum())

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps():
            yield step[self.rank :: self.num_replicas].tolist()

    def _steps(self) -> Iterator[Tensor]:
        """Yield the rows of all processes step by step: their number is a multiple of the processes'."""
        together = self.rows * self.num_replicas
        if not self.shuffle:
            order = self.lengths.argsort(descending=True, stable=True)
            filled = (
                self._filled(rows, rows.flip(0)) for rows in self._of_each(order)
            )  # with the shortest, which cost least
            steps = [step for rows in filled for step in rows.split(together)]
            yield from sorted(steps, key=lambda step: -int(self.lengths[step[0]]))
            return
        rng = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = self._of_each(torch.randperm(len(self.lengths), generator=rng))
        windows = (window for rows in drawn for window in self._filled(rows, rows).split(together * WINDOW))
        steps = [
            step for window in windows for step in window[self.lengths[window].argsort(descending=True)].split(together)
        ]
        yield from (steps[i] for i in torch.randperm(len(steps), generator=rng).tolist())

    def _of_each(self, order: Tensor) -> Sequence[Tensor]:
        """Return the rows of each owner, in the order given."""
        return order[self.owners[order].argsort(stable=True)].split(self.owners.bincount().tolist())

    def _filled(self, order: Tensor, again: Tensor) -> Tensor:
        missing = -len(order) % self.num_replicas
        return torch.cat([order, again.repeat(-(-missing // max(len(again), 1)))[:missing]])

    def in_order(self, answers: Tensor) -> Tensor:
        """Put the concatenated answers of one pass back into the data set's order.

        Args:
            answers: ``[rows of the data set, ...]``, in the order in which this sampler gave the rows. Of several processes:
                the answers of rank 0, then those of rank 1 and so on, with rows that were given twice.

        Raises:
            MuxwrapError: a shuffled pass has no order to restore, or rows are missing.
        """
        if self.shuffle:
            raise MuxwrapError("in_order(): this sampler shuffles; make one with shuffle=False for evaluation")
        steps = list(self._steps())
        ranks = [
            torch.cat([step[rank :: self.num_replicas] for step in steps]) for rank in range(self.num_replicas) if steps
        ]
        order = (
            torch.cat(ranks).to(answers.device) if ranks else torch.empty(0, dtype=torch.long, device=answers.device)
        )
        if len(answers) != len(order):
            every = (
                "every row needs one" if self.num_replicas == 1 else f"give those of all {self.num_replicas} processes"
            )
            raise MuxwrapError(f"in_order(): {len(answers)} answers for {len(order)} rows; {every}")
        restored = answers.new_empty((len(self.lengths), *answers.shape[1:]))
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
