"""A stem that embeds tokens, run some rows at a time: the embeddings of some rows fit into the caches, those of all do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.nested import map_tensors, tensors_in

ELEMENTS = 2**20
"""Elements that a stem makes at a time on a processor. Larger tensors are slower: beyond the caches every operation of the
stem waits for memory, and beyond a few megabytes the C library's allocator returns memory to the system and faults it in
again."""
ACCELERATOR_ELEMENTS = 2**27
"""The same on an accelerator, where memory is fast and many small calls are slow; this only bounds the memory."""


class Chunks:
    """The call of a stem, cut into calls on some of its rows.

    Args:
        args: positional arguments of the whole call.
        kwargs: keyword arguments of the whole call.
        rows: of the batch.
        n: instances per mixture.
        size: most rows in a chunk; a chunk is whole groups, or a part of one.
    """

    def __init__(self, args: Any, kwargs: Any, rows: int, n: int, size: int) -> None:
        self.args = args
        self.kwargs = kwargs
        self.rows = rows
        self.n = n
        self.size = size // n * n or size

    def __iter__(self) -> Iterator[range]:
        """Yield the rows of every chunk; those beyond the batch fill the last group."""
        filled = -(-self.rows // self.n) * self.n
        unit = max(self.size, self.n)
        for start in range(0, filled, unit):
            end = min(start + unit, filled)
            for first in range(start, end, self.size):
                yield range(first, min(first + self.size, end))

    def call(self, rows: range) -> Any:
        """Return the arguments for some rows."""
        return map_tensors((self.args, self.kwargs), lambda value: self.take(value, rows))

    def take(self, value: Tensor, rows: range) -> Tensor:
        """Return some rows of a tensor; the last group is filled as :func:`muxwrap._hooks.grouping.group` fills it."""
        if value.shape[0] != self.rows:
            return value  # [1, L]: positions, the same for all rows
        if rows.stop <= self.rows:
            return value[rows.start : rows.stop]
        return value[torch.arange(rows.start, rows.stop, device=value.device) % self.rows]


def chunks_of(module: nn.Module, args: Any, kwargs: Any, n: int, dim: int, additive: bool) -> Chunks | None:
    """Return the chunks of a module's call on token ids, or None where it has to be made whole.

    Rows of ids are embedded one by one. The call is cut only where nothing else can observe it: without gradients (which
    keep everything anyway), and outside of compiled code (which fuses the passes over memory itself). Whether anybody else
    has a hook there is asked besides (:func:`~muxwrap._hooks.running.is_watched`).

    Args:
        module: the stem.
        args: its positional arguments.
        kwargs: its keyword arguments.
        n: instances per mixture.
        dim: features of an embedded token.
        additive: whether a mixture may be accumulated from parts.
    """
    if torch.is_grad_enabled() or module.training or torch.compiler.is_compiling():
        return None
    tensors = list(tensors_in((args, kwargs)))
    if not tensors or any(value.ndim != 2 or value.is_floating_point() for value in tensors):
        return None
    rows = max(value.shape[0] for value in tensors)
    if any(value.shape[0] not in (1, rows) for value in tensors):
        return None
    elements = ELEMENTS if tensors[0].device.type == "cpu" else ACCELERATOR_ELEMENTS
    fit = max(1, elements // (tensors[0].shape[1] * dim))
    size = fit if additive else max(fit, n)
    return Chunks(args, kwargs, rows, n, size) if size < rows and n > 1 else None
