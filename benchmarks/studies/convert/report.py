"""The tables of the study, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from benchmarks.studies.common.markdown import table
from benchmarks.studies.convert.pages import Record, run_of


def report(records: Sequence[Record], tasks: Iterable[str]) -> str:
    """Return one table per task, the model with the most work first."""
    found = ((task, _table([r for r in records if r["dataset"] == task])) for task in tasks)
    return "\n\n".join(f"## {task}\n\n{lines}" for task, lines in found if lines)


def _table(records: Sequence[Record]) -> str:
    scores: dict[str, list[Record]] = {}
    for record in records:
        if "mean" in record:
            scores.setdefault(record["configuration"], []).append(record)
    speeds = {r["configuration"]: r for r in records if r["kind"] == "speed"}
    teacher = {run_of(r): r["mean"] for r in scores.get("teacher", [])}
    lines = []
    for name, own in sorted(scores.items(), key=lambda each: -speeds.get(each[0], {}).get("layers_worth", 0)):
        means = [r["mean"] for r in own]
        gaps = [r["mean"] - teacher[run_of(r)] for r in own if run_of(r) in teacher]
        speed = speeds.get(name)
        lines.append(
            [
                name,
                f"{speed['layers_worth']:.2f}" if speed else "–",
                f"{speed['ratio_to_bare']:.2f}x" if speed else "–",
                f"{fmean(means):.1f}" + (f" ± {stdev(means):.1f}" if len(means) > 1 else ""),
                f"{fmean(gaps):+.1f}" if gaps else "–",
                str(len(means)),
            ]
        )
    return table(["model", "layers' worth", "speed", "accuracy", "to the teacher", "seeds"], lines) if lines else ""
