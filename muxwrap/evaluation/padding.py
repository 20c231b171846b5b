"""Texts that are padded to another length in every batch: which tensors are padded, on which side, how long every row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # the label that torch's and Transformers' losses leave out


class Padding(NamedTuple):
    """What can be cut and padded anew.

    Args:
        keys: of the arguments that have the tokens along axis 1.
        labels: the labels have them, too.
        left: padding is on the left.
        lengths: of every row of the data set, without padding.
    """

    keys: frozenset[str]
    labels: bool
    left: bool
    lengths: Tensor


def find_padding(inputs: Sequence[Any], labels: Sequence[Tensor]) -> Padding | None:
    """Read it from the batches' ``attention_mask [rows, L]``; None where there is none, or where L is always the same."""
    if not all(isinstance(each, dict) and getattr(each.get("attention_mask"), "ndim", 0) == 2 for each in inputs):
        return None
    masks = [each["attention_mask"].cpu() != 0 for each in inputs]
    if len({mask.shape[1] for mask in masks}) == 1:
        return None

    def are_tokens(values: Sequence[Any]) -> bool:
        return all(
            isinstance(value, Tensor) and value.shape[1:2] == mask.shape[1:]
            for value, mask in zip(values, masks, strict=True)
        )

    keys = frozenset(key for key in inputs[0] if are_tokens([each[key] for each in inputs]))
    left = any(not bool(mask[:, 0].all()) for mask in masks)
    if has_labels := are_tokens(labels):  # a token with a label counts, whatever the mask holds
        masks = [mask | (label != IGNORED) for mask, label in zip(masks, labels, strict=True)]
    return Padding(keys, has_labels, left, torch.cat([_lengths(mask, left) for mask in masks]))


def place(out: Tensor, rows: Tensor, values: Tensor, left: bool) -> None:
    """Write values ``[rows, ...]`` into some rows of another tensor, at the end of axis 1 if padding is on the left.

    What is too long for it is padding, and is cut off.
    """
    if values.ndim < 2:
        out[rows] = values
        return
    first, *rest = (min(a, b) for a, b in zip(out.shape[1:], values.shape[1:], strict=True))
    tokens = slice(-first, None) if left and first else slice(first)
    window = (tokens, *(slice(size) for size in rest))
    there, here = (rows, *window), (slice(None), *window)
    out[there] = values[here]


def _lengths(real: Tensor, left: bool) -> Tensor:
    """Return how long every row of a mask ``[rows, L]`` is, one at least, up to the last position that counts."""
    positions = torch.arange(1, real.shape[1] + 1)
    return (real * (positions.flip(0) if left else positions)).amax(1).clamp(min=1)
