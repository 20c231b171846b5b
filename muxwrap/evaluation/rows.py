"""The rows of a data set, held once, and any of them collated into a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.nested import tensors_in
from muxwrap.evaluation.batches import Batch
from muxwrap.evaluation.padding import IGNORED, find_padding, place


class Rows:
    """The rows of all batches, numbered in the order in which they were read.

    Args:
        batches: their tensors are kept as they are, not copied.
        pad_id: what ``input_ids`` are padded with.
    """

    def __init__(self, batches: Sequence[Batch], pad_id: int = 0) -> None:
        inputs, labels = zip(*batches, strict=True)
        self.template = inputs[0]
        self.leaves = [list(tensors_in(each)) for each in inputs]
        sizes = torch.tensor([len(each) for each in labels])
        self.batch = torch.arange(len(batches)).repeat_interleave(sizes)
        self.row = torch.cat([torch.arange(size) for size in sizes.tolist()])
        self.largest = int(sizes.max())
        self.padding = find_padding(inputs, labels)
        keys = [key for key in self.template for _ in tensors_in(self.template[key])] if self.padding else []
        self.padded = {k for k, key in enumerate(keys) if self.padding and key in self.padding.keys}
        self.fill = {k: pad_id for k, key in enumerate(keys) if key.endswith("input_ids")}
        self.left = self.padding is not None and self.padding.left
        self.lengths = None if self.padding is None else self.padding.lengths
        self._hold_labels(labels)

    def __len__(self) -> int:
        return len(self.batch)

    def kinds(self) -> list[Tensor]:
        """Return the row numbers of every set of rows that can be collated; mostly there is one set."""
        found: dict[Any, list[int]] = {}
        for number, leaves in enumerate(self.leaves):
            shapes = tuple(leaf.shape[2 if k in self.padded else 1 :] for k, leaf in enumerate(leaves))
            found.setdefault(shapes, []).append(number)
        return [torch.isin(self.batch, torch.tensor(numbers)).nonzero().squeeze(1) for numbers in found.values()]

    def take(self, rows: Tensor) -> Any:
        """Return the model's arguments for some rows, in their order."""
        return _rebuild(self.template, (self._gather(k, rows) for k in range(len(self.leaves[0]))))

    def labels_of(self, rows: Tensor) -> Tensor:
        """Return the labels of some rows, as long as these rows' longest."""
        found = self.labels[rows]
        if found.ndim < 2:
            return found
        length = int(self.label_lengths[rows].max())
        return found[:, found.shape[1] - length :] if self.left else found[:, :length]

    def join(self, parts: Sequence[tuple[Tensor, Tensor]], fill: int = 0) -> Tensor:
        """Put what belongs to rows into the data set's order, padded to the longest.

        Args:
            parts: pairs of row numbers and values ``[rows, ...]``.
            fill: what to pad with.
        """
        values = [value for _, value in parts]
        out = values[0].new_full((len(self), *_largest(values)), fill)
        for rows, value in parts:
            place(out, rows, value, self.left)
        return out

    def _hold_labels(self, labels: Sequence[Tensor]) -> None:
        """Keep labels ``[rows]`` or ``[rows, L, ...]``, padded to the longest, and how long each row's are."""
        ends = torch.tensor([len(each) for each in labels]).cumsum(0).tolist()
        parts = [(torch.arange(end - len(each), end), each) for end, each in zip(ends, labels, strict=True)]
        self.labels = self.join(parts, 0 if labels[0].dtype == torch.bool else IGNORED)
        self.label_lengths = torch.tensor([each.shape[1] if each.ndim > 1 else 0 for each in labels])[self.batch]
        if self.padding is not None and self.padding.labels:
            self.label_lengths = self.padding.lengths
            self.labels = self.labels_of(torch.arange(len(self)))

    def _gather(self, k: int, rows: Tensor) -> Tensor:
        """Collate one tensor of the arguments: ``[rows, ...]``."""
        batch, row = self.batch[rows], self.row[rows]
        numbers = batch.unique().tolist()
        first = self.leaves[numbers[0]][k]
        if len(numbers) == 1 and k not in self.padded:
            return first[row]
        shape = list(first.shape[1:])
        if k in self.padded and self.lengths is not None:
            shape[0] = int(self.lengths[rows].max())
        out = first.new_full((len(rows), *shape), self.fill.get(k, 0))
        for number in numbers:
            chosen = (batch == number).nonzero().squeeze(1)
            place(out, chosen, self.leaves[number][k][row[chosen]], self.left)
        return out


def _largest(values: Sequence[Tensor]) -> list[int]:
    """Return the largest size of every axis but the first."""
    return [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]


def _rebuild(template: Any, leaves: Iterator[Tensor]) -> Any:
    """Return the template with other tensors."""
    if isinstance(template, Tensor):
        return next(leaves)
    if isinstance(template, tuple) and hasattr(template, "_fields"):
        return type(template)(*(_rebuild(part, leaves) for part in template))
    if isinstance(template, (tuple, list)):
        return type(template)(_rebuild(part, leaves) for part in template)
    if isinstance(template, dict):
        return {key: _rebuild(part, leaves) for key, part in template.items()}
    return template
