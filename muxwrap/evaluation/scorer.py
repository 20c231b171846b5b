"""Reading outputs beside labels: what kind of task it is, what to keep of a call, and the score of some rows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.metrics import Metric, make_metric
from muxwrap.evaluation.rows import Rows
from muxwrap.evaluation.tasks import Task, agree, counted, predictions, task_of

COMPARABLE = (Task.CLASSES, Task.MULTILABEL)


class Scorer:
    """Decides on the task and the metric at the first call, since it takes outputs to know.

    Args:
        metric: what the user gave.
        rows: the data set.
        config: of a Transformers model, or None.
        compared: predictions are compared with a reference's.
    """

    task: Task
    metric: Metric

    def __init__(self, metric: Any, rows: Rows, config: Any, compared: bool) -> None:
        self.wanted, self.rows, self.config, self.compared = metric, rows, config, compared
        self.decided = False

    def keep(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return what is kept of a call's outputs, on the CPU.

        Raises:
            MuxwrapError: outputs and labels do not fit each other or the metric.
        """
        if not self.decided:
            self._decide(outputs, labels)
        if self.task is Task.REGRESSION:
            outputs = outputs.reshape(labels.shape)
        return (predictions(self.task, outputs) if self.metric.of_predictions else outputs).cpu()

    def _decide(self, outputs: Tensor, labels: Tensor) -> None:
        every = self.rows.labels
        binary = bool(((every == 0) | (every == 1)).all())
        self.task = task_of(outputs, labels, binary, getattr(self.config, "problem_type", None))
        self.metric = make_metric(self.wanted, self.task, outputs, labels, self.config)
        self.counted = counted(self.task, every)
        if not self.counted.any():
            raise MuxwrapError("evaluate(): the batches hold no labels but -100, which is left out")
        if self.compared and self.task not in COMPARABLE:
            raise MuxwrapError(
                f"evaluate(reference=...): agreement counts equal predictions of classes, and this is {self.task.value} "
                f"(outputs {list(outputs.shape)}, labels {list(labels.shape)}); leave the reference out"
            )
        self.labels = every.to(outputs.dtype) if self.task is Task.REGRESSION else every
        self.decided = True

    def score(self, kept: Tensor, chosen: Tensor | None = None) -> float:
        """Return the score of all rows, or of some of them: bool ``[rows]``."""
        return self.metric.score(*((kept, self.labels) if chosen is None else (kept[chosen], self.labels[chosen])))

    def per_index(self, kept: Tensor, index: Tensor, n: int) -> list[float]:
        """Return the score of the rows at every index, NaN where there are none.

        Raises:
            MuxwrapError: the metric fails on so few rows.
        """
        found = []
        for i in range(n):
            chosen = index == i
            try:
                found.append(self.score(kept, chosen) if chosen.any() else float("nan"))
            except Exception as error:
                raise MuxwrapError(
                    f"evaluate(metric={self.metric.name}): it fails on the {int(chosen.sum())} rows at index {i}: {error}; "
                    "per_index=False scores all rows only"
                ) from error
        return found

    def predicted(self, kept: Tensor) -> Tensor | None:
        """Return the predictions of a pass, None where the task has none."""
        if self.task not in COMPARABLE:
            return None
        return kept if self.metric.of_predictions else predictions(self.task, kept)

    def same(self, a: Tensor, b: Tensor) -> Tensor:
        """Return whether two predictions are the same, of every row or token that has a label: bool ``[labels]``."""
        return agree(self.task, a, b)[self.counted]
