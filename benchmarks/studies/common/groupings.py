"""Scores over random groupings: every row is scored in each, in a mixture with other rows and at another index."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.studies.common.models import instances

GROUPINGS = 5
SELECTION = 1_000_000  # seed of the groupings that selection uses; those that are reported have the seeds from 0


class Score(Protocol):
    """A function of sums over rows, so that rows can be grouped in any way."""

    name: str

    def counts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return what is summed, ``[rows, columns]``, of the logits of so many rows."""
        ...

    def score(self, sums: Tensor) -> float:
        """Return the score in percent of the sums ``[columns]``."""
        ...

    def extra(self, sums: Tensor) -> dict[str, float]:
        """Return further fields of the record."""
        ...


class Accuracy:
    """Columns: right answers, rows."""

    name = "accuracy"

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def counts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """``[rows, classes] -> [rows, 2]``."""
        right = (logits.argmax(-1) == self.labels[rows].to(logits.device)).float().cpu()
        return torch.stack([right, torch.ones_like(right)], dim=1)

    def score(self, sums: Tensor) -> float:
        return 100 * float(sums[0] / sums[1])

    def extra(self, sums: Tensor) -> dict[str, float]:
        return {}


@torch.inference_mode()
def count(
    model: nn.Module, batches: Iterable[Tensor], logits_of: Callable[[Tensor], Tensor], score: Score
) -> tuple[Tensor, Tensor]:
    """Return every row's counts under one grouping, and the index that the row had in its mixture.

    Args:
        model: put in evaluation mode.
        batches: row numbers; together they hold every row once.
        logits_of: the model's answers to such rows.
        score: what is counted.
    """
    n = instances(model)
    model.eval()
    found, indices, seen = [], [], []
    for rows in batches:
        found.append(score.counts(logits_of(rows), rows))
        indices.append(torch.arange(len(rows)) % n)
        seen.append(rows.cpu())
    every = torch.cat(seen)
    assert torch.equal(every.sort().values, torch.arange(len(every))), "every row once"
    return torch.cat(found), torch.cat(indices)


def over_groupings(
    n: int, counts: Callable[[int], tuple[Tensor, Tensor]], score: Score, first: int = 0
) -> dict[str, Any]:
    """Return the record's fields of a score: over random groupings, and per index.

    Args:
        n: instances per mixture; grouping does not matter to a bare model, which has one.
        counts: what ``count`` returns under the grouping of a seed.
        score: makes the score of sums.
        first: seed of the first grouping.
    """
    groupings = GROUPINGS if n > 1 else 1
    columns, indices = zip(*(counts(first + k) for k in range(groupings)), strict=True)
    means = [score.score(each.sum(0)) for each in columns]
    every, index = torch.cat(columns), torch.cat(indices)
    return {
        "mean": statistics.mean(means),
        "std": statistics.stdev(means) if groupings > 1 else None,
        "groupings": groupings,
        "per_index": [round(score.score(every[index == i].sum(0)), 2) for i in range(n)],
        "scored": len(columns[0]),
        **score.extra(every.sum(0)),
    }
