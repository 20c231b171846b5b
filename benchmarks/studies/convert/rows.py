"""A split on the device, and batches of rows of like length whose padded lengths are few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.studies.convert.pack import Packed
from muxwrap.samplers import LengthBatches

STEP = 8  # padded lengths are multiples of this, so that a device sees few shapes
SEPARATOR = 3  # the id of [SEP], after [PAD], [UNK] and [CLS]


class Rows:
    """A split as tensors: ``ids [rows, longest]``, ``lengths``, ``labels`` ``[rows]``.

    Args:
        packed: the packed file.
        task: its name.
        split: its name.
        device: where the tensors lie.
        dtype: in which models run on them.
    """

    def __init__(
        self, packed: Packed, task: str, split: str, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        found = packed.split(task, split)
        self.lengths: Tensor = found["lengths"]
        ids = pad_sequence(found["ids"].split(self.lengths.tolist()), batch_first=True)
        missing = -ids.shape[1] % STEP
        self.ids = torch.nn.functional.pad(ids, (0, missing)).to(device)
        self.labels: Tensor = found["labels"].to(device)
        self.lengths_there = self.lengths.to(device)
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.lengths)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a model runs on the rows."""
        return torch.autocast(self.ids.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def inputs(self, rows: Tensor, length: int) -> dict[str, Tensor]:
        """Return the arguments of a call for rows, on the device, padded to a length.

        A pair's second text begins after the first separator.
        """
        ids = self.ids[rows, :length]
        mask = torch.arange(length, device=ids.device) < self.lengths_there[rows, None]
        separators = (ids == SEPARATOR).cumsum(1) - (ids == SEPARATOR).long()
        types = (separators > 0).long() * mask
        return {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": types}

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, int]]:
        """Yield the rows of every batch, on the device, and their padded length.

        Args:
            size: rows per batch.
            seed: of an epoch's order, in which rows of like length meet; None goes through all rows by length.
        """
        sampler = LengthBatches(self.lengths.tolist(), size, shuffle=seed is not None, seed=seed or 0)
        rng = torch.Generator().manual_seed(seed or 0)
        batches = [torch.tensor(batch) for batch in sampler]
        longest = [-(-int(self.lengths[batch].max()) // STEP) * STEP for batch in batches]
        if seed is not None:
            batches = [batch[torch.randperm(len(batch), generator=rng)] for batch in batches]
        there = torch.cat(batches).to(self.ids.device)  # an epoch's order in one transfer
        yield from zip(there.split([len(batch) for batch in batches]), longest, strict=True)

    def calls(self, size: int) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Return all rows as pairs of inputs and labels, by length."""
        return [(self.inputs(rows, length), self.labels[rows]) for rows, length in self.batches(size, None)]
