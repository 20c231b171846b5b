"""From groupings to a result: scores, flips and agreement."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from muxwrap.evaluation.result import Evaluation
from muxwrap.evaluation.scorer import Scorer


class Tally:
    """Collects the scores and the predictions of every grouping.

    Args:
        scorer: of the data set.
        n: instances in a mixture.
        per_index: also score the rows at every index on their own.
    """

    def __init__(self, scorer: Scorer, n: int, per_index: bool) -> None:
        self.scorer, self.n, self.wants_index = scorer, n, per_index
        self.scores: list[float] = []
        self.per_index: list[list[float]] = []
        self.predicted: list[Tensor] = []
        self.agreement: float | None = None

    def add(self, kept: Tensor, index: Tensor) -> None:
        """Score a grouping, of what was kept of every row and the index at which the row stood."""
        self.scores.append(self.scorer.score(kept))
        if self.wants_index:
            self.per_index.append(self.scorer.per_index(kept, index, self.n))
        predicted = self.scorer.predicted(kept)
        if predicted is not None:
            self.predicted.append(predicted)

    def compare(self, kept: Tensor) -> None:
        """Count how often the predictions are those of another model, of what was kept of every row."""
        other = self.scorer.predicted(kept)
        assert other is not None, "the scorer refuses a reference where there are no predictions"
        self.agreement = statistics.fmean(_share(self.scorer.same(each, other)) for each in self.predicted)

    def result(self, rows: int) -> Evaluation:
        """Return what was found, of so many rows."""
        metric = self.scorer.metric
        per_index = tuple(_mean(values) for values in zip(*self.per_index, strict=True))
        found = (metric.name, self.n, rows, tuple(self.scores), per_index, self._flips(), self.agreement)
        return Evaluation(*found, metric.higher_is_better)

    def _flips(self) -> float | None:
        if len(self.predicted) < 2:
            return None
        first, *others = self.predicted
        return 1 - _share(torch.stack([self.scorer.same(first, each) for each in others]).all(0))


def _share(values: Tensor) -> float:
    return values.double().mean().item()


def _mean(values: tuple[float, ...]) -> float:
    """Return the mean of those that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan
