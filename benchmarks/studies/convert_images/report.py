"""The table of the study: every model's operations and accuracy, and of each kind of mixing the place that is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

Record = dict[str, Any]
HEAD = "| model | MFLOP an image | work saved | held-out training images, % | test images, % |"


def rows(records: Sequence[Record]) -> list[list[str]]:
    """Return a row for every model, those with the most work first; work saved is how many times less it is."""
    names = dict.fromkeys(record["configuration"] for record in records)
    groups = sorted(([r for r in records if r["configuration"] == name] for name in names), key=_order)
    teacher = [record["mflops"] for record in records if record["kind"] == "teacher"]
    found = []
    for own in groups:
        work = own[0]["mflops"]
        saved = f"{teacher[0] / work:.2f}x" if teacher else "–"
        found.append(
            [own[0]["configuration"], f"{work:.1f}", saved, *(_mean(own, split) for split in ("select", "test"))]
        )
    return found


def _order(own: Sequence[Record]) -> tuple[bool, float]:
    return own[0]["kind"] != "teacher", -own[0]["mflops"]


def _mean(records: Sequence[Record], split: str) -> str:
    scores = [record[split] for record in records]
    return f"{fmean(scores):.1f}" + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else "")
