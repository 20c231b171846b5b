"""From what users iterate over to calls of a text model: ids, which of them are padding, and the arguments."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError


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


def ids_argument(backbone: nn.Module) -> str:
    """Return the argument that takes token ids: ``input_ids``, or the first where the forward has none of that name."""
    names = inspect.signature(backbone.forward).parameters
    return "input_ids" if "input_ids" in names else next(iter(names))


def as_batch(backbone: nn.Module, value: Any, vocabulary: int | None, device: torch.device | None = None) -> Batch:
    """Make a call out of ``input_ids [rows, length]`` or a mapping that holds them.

    Columns that the backbone's forward does not name are left out, and labels as well: retrieval has its own targets.

    Args:
        backbone: the bare model.
        value: what the user's iterable yields.
        vocabulary: the number of tokens; None if it is not known yet.
        device: where to put the tensors, by default where they are.

    Raises:
        MuxwrapError: no ids, ids outside of the vocabulary, or a mask of another shape.
    """
    columns = {key: value[key] for key in value.keys()} if hasattr(value, "keys") else {"input_ids": value}  # noqa: SIM118
    if "input_ids" not in columns:
        raise MuxwrapError(
            f"a batch holds {sorted(map(str, columns))} and no input_ids; retrieval predicts tokens, so give their ids"
        )
    ids, mask = columns.pop("input_ids"), columns.get("attention_mask")
    _check_ids(ids, vocabulary)
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != ids.shape):
        shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise MuxwrapError(f"attention_mask {shape} beside input_ids {list(ids.shape)}; give one of their shape")
    names = inspect.signature(backbone.forward).parameters
    inputs = {key: each for key, each in columns.items() if key in names and "label" not in key}
    inputs = {ids_argument(backbone): ids, **inputs}
    if device is not None:
        inputs = {key: each.to(device) if isinstance(each, Tensor) else each for key, each in inputs.items()}
        ids, mask = ids.to(device), None if mask is None else mask.to(device)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    return Batch(inputs, ids, real)


def _check_ids(ids: object, vocabulary: int | None) -> None:
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool or ids.ndim != 2:
        got = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise MuxwrapError(
            f"input_ids are {got}; retrieval predicts tokens: give integer ids [rows, length] of a text model (images have "
            "none)"
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
