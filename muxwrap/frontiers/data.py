"""Batches that a chart is made of, and a row that stands for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median_low
from typing import Any

from torch import Tensor, nn

from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError
from muxwrap.training.pairs import Pair, as_pair
from muxwrap.training.teaching import mask_of


def held(batches: Iterable[Any], model: nn.Module, argument: str) -> list[Pair]:
    """Read batches once, as pairs of inputs and labels on the model's device.

    Raises:
        MuxwrapError: there is none, or one has no labels.
    """
    device = next(model.parameters()).device
    found = [as_pair(batch, model, f"frontier({argument}=...)").to(device) for batch in batches]
    if not found or any(pair.labels is None for pair in found):
        what = "a batch without labels" if found else "no batch"
        raise MuxwrapError(
            f"frontier({argument}=...): there is {what}, and accuracy is to be measured; give (inputs, labels) pairs or dicts "
            "with labels"
        )
    return found


def median_row(pairs: Sequence[Pair]) -> Any:
    """Return the call of one row: of text with masks one of the median length, cut to it; else the first."""
    masks = [(pair, mask) for pair in pairs if (mask := mask_of(pair.inputs)) is not None]
    rows = [(pair, at, length) for pair, mask in masks for at, length in enumerate(mask.sum(1).tolist())]
    if not rows:
        return _row(pairs[0].inputs, 0, None)
    middle = median_low(length for *_, length in rows)
    pair, at, length = next(row for row in rows if row[2] == middle)
    mask = mask_of(pair.inputs)
    assert mask is not None
    first = int(mask[at].argmax())  # behind padding on the left
    return _row(pair.inputs, at, slice(first, first + length))


def _row(inputs: Any, at: int, tokens: slice | None) -> Any:
    first = first_tensor(inputs)
    assert first is not None

    def take(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != first.shape[0]:
            return tensor
        row = tensor[at : at + 1]
        return row if tokens is None or tensor.shape[:2] != first.shape[:2] else row[:, tokens]

    return map_tensors(inputs, take)
