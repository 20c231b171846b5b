"""What kind of answers a model's outputs are, read from their shape beside the labels'."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.nested import tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.padding import IGNORED


class Task(Enum):
    """The kinds of tasks."""

    CLASSES = "classes"
    """Outputs ``[rows, C]`` or ``[rows, L, C]``, integer labels without the last axis; -100 is left out."""
    MULTILABEL = "several labels"
    """Outputs ``[rows, C]`` above or below zero, labels ``[rows, C]`` of zeros and ones."""
    REGRESSION = "regression"
    """Outputs ``[rows]``, ``[rows, 1]`` or of the labels' shape."""
    OTHER = "other"
    """What only a metric of the user's can judge."""


def find_outputs(output: Any, rows: int, model: nn.Module) -> Tensor:
    """Return the logits of a call: the output itself, its ``logits``, or its first tensor with a row per row.

    Raises:
        MuxwrapError: there is no such tensor.
    """
    named = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
    candidates = tensors_in(output if named is None else named)
    found = next((tensor for tensor in candidates if tensor.ndim and tensor.shape[0] == rows), None)
    if found is None:
        raise MuxwrapError(
            f"{type(model).__name__} returned no tensor with a row for each of {rows} rows; give a model that answers per row"
        )
    return (found.float() if found.dtype in (torch.float16, torch.bfloat16) else found).detach()


def task_of(outputs: Tensor, labels: Tensor, binary: bool, problem: str | None) -> Task:
    """Return the kind of task.

    Args:
        outputs: ``[rows, ...]``.
        labels: of the same rows.
        binary: all labels of the data set are zeros and ones.
        problem: the ``problem_type`` of a Transformers model, if it has one.
    """
    same = outputs.shape == labels.shape
    if outputs.ndim > 1 and outputs.shape[-1] > 1 and outputs.shape[:-1] == labels.shape:
        return Task.CLASSES if not labels.is_floating_point() and problem != "regression" else Task.OTHER
    if same and outputs.ndim == 2 and outputs.shape[1] > 1 and binary and problem != "regression":
        return Task.MULTILABEL
    if same or (outputs.numel() == len(outputs) == labels.numel()):
        return Task.REGRESSION
    return Task.OTHER


def predictions(task: Task, outputs: Tensor) -> Tensor:
    """Return the classes ``[rows, ...]``, or which labels are given ``[rows, C]``."""
    return outputs.argmax(-1) if task is Task.CLASSES else outputs > 0


def counted(task: Task, labels: Tensor) -> Tensor:
    """Return which rows, or tokens, have a label: bool ``[rows]`` or ``[rows, L]``."""
    return labels != IGNORED if task is Task.CLASSES else torch.ones(len(labels), dtype=torch.bool)


def agree(task: Task, a: Tensor, b: Tensor) -> Tensor:
    """Return where two predictions are the same: bool ``[rows]`` or ``[rows, L]``."""
    same = a == b
    return same.all(-1) if task is Task.MULTILABEL else same
