"""How accurate a model of the study is, at each n that it is made for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import muxwrap
from benchmarks.studies.convert.rows import Rows

SELECTION = 1_000_000  # seed of the grouping that selects; those that are reported have others
SCORED = 512  # rows per call


def sizes(model: nn.Module) -> tuple[int, ...]:
    """Return the n that a model has been made for, ``(1,)`` for a plain one."""
    return model.sizes if isinstance(model, muxwrap.Multiplex) else (1,)


def accuracy_at(model: nn.Module, split: Rows, n: int) -> float:
    """Return the accuracy with ``n`` rows per mixture, at which a model of several n stays."""
    if len(sizes(model)) > 1:
        model.n = n
    return accuracy(model, split)


@torch.no_grad()
def accuracy(model: nn.Module, split: Rows) -> float:
    """Return the accuracy in one random grouping, 0 to 100; one number is fetched from the device."""
    model.eval()
    right = torch.zeros((), dtype=torch.long, device=split.ids.device)
    for rows, length in split.batches(SCORED, SELECTION):
        with split.autocast():
            logits = model(**split.inputs(rows, length))[0]
        right += (logits.argmax(-1) == split.labels[rows]).sum()
    return 100 * right.item() / len(split)


def score(model: nn.Module, split: Rows, groupings: int) -> dict[str, Any]:
    """Return the fields of the score on a split, over random groupings of its rows (:func:`muxwrap.evaluate`)."""
    calls = [({key: value.cpu() for key, value in inputs.items()}, labels) for inputs, labels in split.calls(SCORED)]
    with split.autocast():
        found = muxwrap.evaluate(model, calls, groupings=groupings, progress=False)
    return {
        "metric": found.metric,
        "mean": round(100 * found.mean, 3),
        "std": None if found.deviation is None else round(100 * found.deviation, 3),
        "groupings": len(found.scores),
        "per_index": [round(100 * each, 2) for each in found.per_index],
    }


def scores(model: nn.Module, split: Rows, groupings: int, elastic: bool) -> dict[str, Any]:
    """Return the fields of the score, of an elastic model at the largest n, with the accuracy at every n beside it."""
    if not elastic:
        return score(model, split, groupings)
    by_n = {}
    for n in sizes(model):
        model.n = n
        by_n[n] = score(model, split, groupings)
    return {**by_n[max(by_n)], "at": {str(n): each["mean"] for n, each in by_n.items()}}
