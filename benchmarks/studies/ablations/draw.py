"""Tables and pictures of the ablations, from their results file alone.

python -m benchmarks.studies.ablations.draw
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import ROOT, read_records
from benchmarks.studies.ablations import studies
from benchmarks.studies.ablations.studies import Study
from benchmarks.studies.common.cells import Record
from benchmarks.studies.common.markdown import table


class Point(NamedTuple):
    """One cell by one measure, over its seeds."""

    values: list[float]  # of the seeds that have a value
    seeds: int
    limit: int  # steps after which a seed has none

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def std(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        if len(self.values) < self.seeds:
            return f"{len(self.values)} of {self.seeds} seeds within {self.limit:,}"
        spread = f" ± {self.std:,.1f}" if self.seeds > 1 else ""
        return f"{self.mean:,.1f}{spread} ({self.seeds} seed{'s' * (self.seeds > 1)})"


Points = dict[str, Point]  # by the cell's label


def points(study: Study, measure: str, records: Iterable[Record]) -> Points:
    """Return what was measured of a study, in its order; cells without a record are left out."""
    by_cell: dict[str, list[Record]] = {}
    for r in sorted(records, key=lambda r: r["seed"]):
        by_cell.setdefault(r["cell"].rpartition(" seed=")[0], []).append(r)
    found = {}
    for label, cell in study.cells.items():
        if seeds := by_cell.get(cell.key(measure, 0).rpartition(" seed=")[0]):
            values = [r["mean"] for r in seeds if r["mean"] is not None]
            found[label] = Point(values, len(seeds), seeds[0]["settings"]["limit"])
    return found


def metric(measure: str, records: Iterable[Record]) -> str:
    return next(r["metric"] for r in records if r["measure"] == measure)


def markdown(name: str, records: list[Record]) -> str:
    """Return a study's table, one row per cell and one column per measure; empty where nothing was measured."""
    study = studies.STUDIES[name]
    columns = {m: found for m in study.measures if (found := points(study, m, records))}
    if not columns:
        return ""
    head = [study.label, *(metric(m, records) for m in columns)]
    rows = [
        [label, *(str(each.get(label, "–")) for each in columns.values())]
        for label in study.cells
        if any(label in each for each in columns.values())
    ]
    return table(head, rows)


def figure(name: str, records: list[Record]) -> Any:
    """Return a study's picture, one panel per measure; None where nothing was measured."""
    from matplotlib.figure import Figure

    study = studies.STUDIES[name]
    panels = {m: found for m in study.measures if (found := points(study, m, records))}
    if not panels:
        return None
    along_axis = all(label.split()[0].isdigit() for label in study.cells)
    height = 3.6 if along_axis else 1.2 + 0.3 * len(study.cells)
    made = Figure(figsize=(5.2 * len(panels), height), layout="constrained")
    for ax, (measure, found) in zip(made.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        title = metric(measure, records)
        (lines if along_axis else bars)(ax, found, study.label, title)
        level = next((r["always_the_most_frequent"] for r in records if r["measure"] == measure), None)
        if level is not None:
            (ax.axhline if along_axis else ax.axvline)(level, color="grey", linestyle=":", label="most frequent answer")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=8)
    made.suptitle(study.title)
    return made


def lines(ax: Any, found: Points, label: str, title: str) -> None:
    """Draw means with deviations along an axis, one line per strategy; what was not reached is missing."""
    for k, name in enumerate(dict.fromkeys(each.split(maxsplit=1)[1] for each in found)):
        chosen = {int(each.split()[0]): p for each, p in found.items() if each.split(maxsplit=1)[1] == name}
        reached = {at: p for at, p in chosen.items() if len(p.values) == p.seeds}
        means, spreads = [p.mean for p in reached.values()], [p.std for p in reached.values()]
        ax.errorbar(list(reached), means, spreads, fmt="o-", capsize=3, color=f"C{k}", label=name)
        for at, p in chosen.items():
            ax.plot([at] * len(p.values), p.values, ".", color=f"C{k}", alpha=0.4)
    ticks = sorted({int(each.split()[0]) for each in found})
    ax.set(xlabel=label, ylabel=title, xscale="log" if 0 < 8 * ticks[0] < ticks[-1] else "linear")
    ax.set_xticks([], minor=True)
    ax.set_xticks(ticks, [str(at) for at in ticks])
    ax.grid(alpha=0.3)


def bars(ax: Any, found: Points, label: str, title: str) -> None:
    """Draw means with deviations, one row per cell, the first on top, and every seed as a point."""
    at = range(len(found))
    reached = [p if p.values else Point([float("nan")], p.seeds, p.limit) for p in found.values()]
    ax.errorbar([p.mean for p in reached], at, xerr=[p.std for p in reached], fmt="o", capsize=3, color="C0")
    for y, p in zip(at, reached, strict=True):
        ax.plot(p.values, [y] * len(p.values), ".", color="C0", alpha=0.4)
    ax.set_yticks(at, list(found))
    ax.invert_yaxis()
    ax.set(xlabel=title, ylabel=label)
    ax.grid(alpha=0.3)


def draw(records: list[Record], folder: Path) -> list[Path]:
    """Write the pictures of all studies that were measured."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in studies.STUDIES:
        if made := figure(name, records):
            written.append(folder / f"ablation_{name}.png")
            made.savefig(written[-1], dpi=120)
    return written


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results/ablations.json", help="the results file")
    parser.add_argument("--images", type=Path, default=ROOT / "docs/images", help="folder for the pictures")
    args = parser.parse_args(argv)
    records = read_records(args.results)
    for name, study in studies.STUDIES.items():
        print(f"## {study.title}\n\n{markdown(name, records) or 'not measured'}\n")
    for path in draw(records, args.images):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
