"""From what users iterate over to calls of a model that names tokens: ids, which of them are padding, and the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.training.distributed import rank


@dataclass(frozen=True)
class Batch:
    """One call of a text model.

    Args:
        inputs: keyword arguments of the backbone's forward.
        ids: token ids ``[rows, length]``.
        real: bool ``[rows, length]``, False at padding.
    """

    inputs: dict[str, Any]
    ids: Tensor
    real: Tensor


def as_batch(backbone: nn.Module, value: Any, vocabulary: int | None, device: torch.device | None = None) -> Batch:
    """Make a call out of ``input_ids [rows, length]`` or a mapping that holds them.

    Columns that the backbone's forward does not name are left out, and labels as well: retrieval has its own targets.
    A forward without ``input_ids`` gets them as its first argument.

    Args:
        backbone: the bare model.
        value: what the user's iterable gave.
        vocabulary: the number of tokens; None if it is not known yet.
        device: where to put the tensors, by default where they are.

    Raises:
        MuxwrapError: no ids, ids that are no tokens of the vocabulary, or a mask of another shape.
    """
    columns = {key: value[key] for key in value.keys()} if hasattr(value, "keys") else {"input_ids": value}  # noqa: SIM118
    if "input_ids" not in columns:
        raise MuxwrapError(
            f"a batch holds {sorted(map(str, columns))} and no input_ids; retrieval names tokens, so give their ids"
        )
    ids, mask = columns["input_ids"], columns.get("attention_mask")
    _check_ids(ids, vocabulary)
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != ids.shape):
        shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise MuxwrapError(f"attention_mask {shape} beside input_ids {list(ids.shape)}; give one of their shape")
    named = inspect.signature(backbone.forward).parameters
    kept = {key: each for key, each in columns.items() if key in named and "label" not in key}
    kept = kept if "input_ids" in named else {next(iter(named)): ids, **kept}
    if device is not None:
        kept = {key: each.to(device) if isinstance(each, Tensor) else each for key, each in kept.items()}
        ids, mask = ids.to(device), None if mask is None else mask.to(device)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    return Batch(kept, ids, real)


def _check_ids(ids: object, vocabulary: int | None) -> None:
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool or ids.ndim != 2:
        got = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise MuxwrapError(
            f"input_ids are {got}; retrieval names tokens: give integer ids [rows, length] of a text model (images have none)"
        )
    if not ids.numel():
        raise MuxwrapError(f"input_ids are empty: {list(ids.shape)}; a batch has at least one row and one token")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (vocabulary is not None and high >= vocabulary):
        wrong = low if low < 0 else high
        raise MuxwrapError(
            f"input_ids hold {wrong}, and the model's input embedding has the tokens 0..{(vocabulary or 0) - 1}; use the "
            "tokenizer that belongs to the model"
        )


class Stream:
    """Batches without end, and random numbers that depend on the seed, the process and the step alone.

    So a run that passes over its first batches goes on as one that trained on them, and there is no random state to keep.

    Args:
        batches: a data loader or a list, read again and again, or a generator that has enough.
        seed: of everything that is drawn.
        device: where the model draws.
    """

    def __init__(self, batches: Iterable[Any], seed: int, device: torch.device) -> None:
        self.batches = batches
        self.seed = seed
        self.device = device
        self._given = 0
        self._peeked: list[Any] = []
        self._iterator: Iterator[Any] | None = None

    def peek(self) -> Any:
        """Return the first batch, which is given again.

        Raises:
            MuxwrapError: there is none.
        """
        self._peeked = [self._next()]
        return self._peeked[0]

    def take(self) -> Any:
        """Return the next batch, and seed what its step will draw.

        Raises:
            MuxwrapError: a generator has ended.
        """
        value = self._peeked.pop() if self._peeked else self._next()
        self._seed(1)
        self._given += 1
        return value

    def skip(self, count: int) -> None:
        """Pass over batches."""
        for _ in range(count):
            self.take()

    def _next(self) -> Any:
        self._seed(0)
        fresh = self._iterator is None
        if self._iterator is None:
            self._iterator = iter(self.batches)
        try:
            return next(self._iterator)
        except StopIteration:
            if fresh or self._iterator is self.batches:
                raise MuxwrapError(_ended(self._given)) from None
        self._iterator = None
        return self._next()

    def _seed(self, purpose: int) -> None:
        """Seed for one purpose (0 batches, 1 the model) of this step."""
        number = (((self.seed << 16) + rank()) << 32) + 2 * self._given + purpose
        torch.default_generator.manual_seed(number % 2**63)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(number % 2**63)

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Leave the global random state as it was before the block."""
        devices = [] if self.device.type == "cpu" else [self.device]
        kind = "cuda" if self.device.type == "cpu" else self.device.type
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield


def _ended(given: int) -> str:
    if not given:
        return "batches holds no batch; give a data loader with rows, or a generator"
    return (
        f"batches ended after {given} and cannot be read again; give a data loader, a list, or a generator without end"
    )
