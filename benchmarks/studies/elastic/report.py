"""The table of the study: at every n the model made for it alone, and one model for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

HEAD = "| rows per mixture | made for this n alone, % | one model, three n a step | one model, one n a step |"
ELASTIC = ("sandwich", "one a step")


def rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for every n; in brackets the distance to the model made for it, in points."""
    found = []
    for n in sorted({record["n"] for record in records}):
        alone = _scores(records, "alone", n)
        cells = [_mean(alone)]
        for training in ELASTIC:
            own = _scores(records, training, n)
            cells.append(f"{_mean(own)} ({fmean(own) - fmean(alone):+.1f})" if own and alone else _mean(own))
        found.append([f"n={n}", *cells])
    return found


def _scores(records: Sequence[dict[str, Any]], training: str, n: int) -> list[float]:
    return [record["test"] for record in records if (record["training"], record["n"]) == (training, n)]


def _mean(scores: Sequence[float]) -> str:
    if not scores:
        return "–"
    return f"{fmean(scores):.1f}" + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else "")
