"""Scores over random groupings: every row is scored in each, in a mixture with other rows and at another index.

Unlike ``muxwrap.evaluate`` these are functions of sums over the rows of all groupings, as F1 per index needs them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.studies.common.groupings import GROUPINGS
from benchmarks.studies.common.models import instances
from benchmarks.studies.text.scores import Score


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


def over_groupings(n: int, counts: Callable[[int], tuple[Tensor, Tensor]], score: Score) -> dict[str, Any]:
    """Return the record's fields of a score: over random groupings, and per index.

    Args:
        n: instances per mixture; grouping does not matter to a bare model, which has one.
        counts: what ``count`` returns under the grouping of a seed.
        score: makes the score of sums.
    """
    groupings = GROUPINGS if n > 1 else 1
    columns, indices = zip(*(counts(seed) for seed in range(groupings)), strict=True)
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
