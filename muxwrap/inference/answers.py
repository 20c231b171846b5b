"""From what a model returns to the answers of its rows, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.answers import of_the_trunk
from muxwrap._util.nested import named_tensors

RESERVED = ("key", "error", "label", "score")
"""Columns of the answers that are not the model's."""

Answer = dict[str, Any]
"""A row's answers: arrays, numbers, texts or lists of texts by the name of their column."""


def answers_in(output: Any, rows: int) -> dict[str, Tensor]:
    """Return the tensors of an output that have a row per row ``[rows, ...]``, on the CPU, by the name of their column.

    A plain tensor is ``answer``; a field of a mapping or of Transformers' output has its own name.
    """
    found = {}
    for path, tensor in named_tensors(output, skip=_no_answer):
        if tensor.ndim and tensor.shape[0] == rows:
            name = "_".join(re.findall(r"\w+", path)) or "answer"
            name = f"answer_{name}" if name in RESERVED or name.isdecimal() else name
            exact = tensor.dtype in (torch.float64, torch.bool) or not tensor.is_floating_point()
            found[name] = tensor.detach().cpu() if exact else tensor.detach().float().cpu()
    return found


def _no_answer(name: object) -> bool:
    """Whether a field of an output belongs to mixtures, or to no row."""
    return name == "loss" or of_the_trunk(name)


def finite(answers: Mapping[str, Tensor], rows: int) -> Tensor:
    """Return which rows have no NaN and no infinity ``[rows]``."""
    good = torch.ones(rows, dtype=torch.bool)
    for tensor in answers.values():
        if tensor.is_floating_point():
            good &= tensor.reshape(rows, -1).isfinite().all(1)
    return good


def classes_in(answers: Mapping[str, Tensor]) -> str:
    """Return the name of the first answer that has classes on its last axis."""
    for name, tensor in answers.items():
        if tensor.ndim > 1 and tensor.shape[-1] > 1 and tensor.is_floating_point():
            return name
    shapes = {name: list(tensor.shape) for name, tensor in answers.items()}
    raise ValueError(f"label=True, and none of its answers has classes on the last axis: {shapes}")


def labelled(logits: Tensor, names: Mapping[int, str] | None) -> dict[str, Any]:
    """Return the likeliest class and its probability.

    Args:
        logits: ``[rows, classes]``, or ``[rows, tokens, classes]``.
        names: of the classes; without them ``label`` has their numbers.
    """
    score, label = logits.softmax(-1).max(-1)
    return {"label": label if names is None else _named(label.tolist(), names), "score": score}


def _named(labels: Any, names: Mapping[int, str]) -> Any:
    return [_named(label, names) for label in labels] if isinstance(labels, list) else names.get(labels, str(labels))
