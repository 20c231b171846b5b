"""The tables of the site: every model beside every task, and the few that a reader starts from."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

Record = dict[str, Any]
TASKS = {"snli": "SNLI", "qnli": "QNLI", "imdb": "IMDb"}
HEADLINE = {
    "teacher": "the trained model",
    "plain, 3 layers": "plain, 3 of 6 layers",
    "plain, 2 layers": "plain, 2 of 6 layers",
    "plain pooled after layer 2, n=8": "plain, tokens pooled by 8",
    "tokens after layer 2, n=4": "`pool`, n=4",
    "tokens after layer 2, n=8": "`pool`, n=8",
    "tokens after layer 2, n=8, 4 layers": "`pool`, n=8, 4 of 6 layers",
    "orthogonal after layer 3, n=4": "features, n=4, after layer 3",
}
HEAD = "| model | " + " | ".join(f"{name}: work | accuracy, %" for name in TASKS.values()) + " |"


def headline(records: Sequence[Record]) -> list[list[str]]:
    """Return the rows of the models that a reader starts from."""
    return [[name, *_cells(records, configuration)] for configuration, name in HEADLINE.items()]


def whole(records: Sequence[Record]) -> list[list[str]]:
    """Return a row for every model, those with the most work first."""
    names = dict.fromkeys(r["configuration"] for r in records if "mean" in r)
    order = sorted(names, key=lambda name: (-(_work(records, name, "snli") or 0), name))
    return [[name, *_cells(records, name)] for name in order]


def _cells(records: Sequence[Record], configuration: str) -> list[str]:
    cells = []
    for task in TASKS:
        work, means = _work(records, configuration, task), _means(records, configuration, task)
        spread = f" ± {stdev(means):.1f}" if len(means) > 1 else ""
        cells += [f"{work:.1f}" if work else "–", f"{fmean(means):.1f}{spread}" if means else "–"]
    return cells


def _means(records: Sequence[Record], configuration: str, task: str) -> list[float]:
    return [r["mean"] for r in _of(records, configuration, task) if "mean" in r]


def _work(records: Sequence[Record], configuration: str, task: str) -> float | None:
    found = [r["layers_worth"] for r in _of(records, configuration, task) if "layers_worth" in r]
    return found[0] if found else None


def _of(records: Sequence[Record], configuration: str, task: str) -> list[Record]:
    return [r for r in records if (r["configuration"], r["dataset"]) == (configuration, task)]
