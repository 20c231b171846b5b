"""Scores: accuracy, a function of the user's, or an object with ``update``, ``compute`` and ``reset``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.tasks import Task, agree, counted

Score = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Metric:
    """A score of some rows.

    Args:
        name: for people.
        higher_is_better: which of two scores is the better one.
        of_predictions: the score is one of predictions, so that outputs need not be kept.
        score: from the outputs or predictions of some rows, and their labels, to a number.
    """

    name: str
    higher_is_better: bool
    of_predictions: bool
    score: Score


def make_metric(metric: Any, task: Task, outputs: Tensor, labels: Tensor, config: Any) -> Metric:
    """Return the user's metric, or the default one: accuracy, and the squared error where a model's config is regression.

    Args:
        metric: what the user gave.
        task: of the model.
        outputs: of one call.
        labels: of its rows.
        config: of a Transformers model, or None.

    Raises:
        MuxwrapError: there is no default for such outputs and labels.
    """
    if metric is not None:
        return _of_user(metric, task)
    if task in (Task.CLASSES, Task.MULTILABEL):
        return Metric("accuracy", True, True, partial(_accuracy, task))
    is_regression = getattr(config, "problem_type", None) == "regression" or getattr(config, "num_labels", None) == 1
    if task is Task.REGRESSION and is_regression:
        return _of_user(F.mse_loss, task)
    shapes = f"labels of shape {list(labels.shape)} ({labels.dtype}) for outputs of shape {list(outputs.shape)}"
    if task is Task.REGRESSION:
        raise MuxwrapError(
            f"evaluate(metric=None): {shapes} have one number per label, and accuracy counts classes; for regression give "
            "metric=torch.nn.functional.mse_loss, or any function (outputs, labels) -> float"
        )
    raise MuxwrapError(
        f"evaluate(metric=None): {shapes}; accuracy needs integer labels [rows] for [rows, classes], [rows, L] for "
        "[rows, L, classes], or zeros and ones [rows, classes]; change the labels, or give a metric (outputs, labels) -> float"
    )


def _accuracy(task: Task, predicted: Tensor, labels: Tensor) -> float:
    return agree(task, predicted, labels.to(predicted.dtype))[counted(task, labels)].double().mean().item()


def _of_user(metric: Any, task: Task) -> Metric:
    """Make a metric of a function or of an object that accumulates."""
    named = getattr(metric, "func", metric)  # a partial has no name of its own
    name = str(getattr(named, "__name__", type(named).__name__))
    # By the names that scikit-learn and torch use: what ends in _loss or _error is better when it is low.
    higher = getattr(metric, "higher_is_better", None)
    higher = not name.endswith(("_loss", "_error")) if higher is None else bool(higher)
    if all(hasattr(metric, part) for part in ("update", "compute", "reset")):
        return Metric(name, higher, False, _accumulated(metric, task))
    if not callable(metric):
        raise MuxwrapError(
            f"evaluate(metric={metric!r}): a {type(metric).__name__}; give a function (outputs, labels) -> float, or an object "
            "with update, compute and reset"
        )
    return Metric(name, higher, False, lambda outputs, labels: _number(metric(outputs, labels), name))


def _accumulated(metric: Any, task: Task) -> Score:
    """Return the score by a copy of a torchmetrics object, whose own state stays as it is."""
    own = copy.deepcopy(metric)

    def score(outputs: Tensor, labels: Tensor) -> float:
        if task is Task.CLASSES:
            chosen = counted(task, labels)
            outputs, labels = outputs[chosen], labels[chosen]
        if not len(labels):
            return float("nan")
        device = getattr(own, "device", "cpu")
        own.reset()
        own.update(outputs.to(device), labels.to(device))
        return _number(own.compute(), type(own).__name__)

    return score


def _number(value: Any, name: str) -> float:
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MuxwrapError(f"evaluate(metric={name}): it returned {value!r}; a metric returns one number") from error
