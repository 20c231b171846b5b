"""Tables and pictures of the vision study, from its results files alone.

python -m benchmarks.studies.vision.report [--results docs/results/vision.json] [--images docs/images]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.studies.vision.pictures import NOTEBOOK, plot
from benchmarks.studies.vision.tables import TABLES, Cell

Record = dict[str, Any]
TITLES = {
    "lenet": "LeNet of the published size, MNIST",
    "fashion": "LeNet of the published size, Fashion-MNIST",
    "widths": "Wider LeNets, MNIST",
    "recipes": "What the recipe depends on, sixteen images a mixture, LeNet, MNIST",
    "strategies": "Every strategy with its default options, four images a mixture, LeNet, MNIST",
    "places": "Cells of the image or slots of the features, LeNet, MNIST",
    "mlp": "Perceptron on the pixels",
    "resnet": "Residual network, subset of CIFAR-10",
    "vit": "Vision transformer, subset of CIFAR-10",
}


class Point(NamedTuple):
    """One cell over its seeds; accuracy in percent."""

    cell: Cell
    mean: float
    groupings: float | None  # deviation between groupings, mean over seeds
    seeds: float | None  # deviation between seeds
    count: int
    indices: tuple[float, float]  # the worst and the best
    selected: float
    operations: float
    added: int
    speed: float | None  # instances per second, as a multiple of the whole bare network's


def points(table: str, records: Iterable[Record], speeds: Iterable[Record] = ()) -> list[Point]:
    """Return the cells of a table that were measured, in the table's order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["group"], []).append(record)
    measured = {record["cell"]: record["ratio_to_bare"] for record in speeds}
    cells = dict.fromkeys(TABLES[table]())
    return [_point(cell, found[str(cell)], measured) for cell in cells if str(cell) in found]


def _point(cell: Cell, records: Sequence[Record], speeds: dict[str, float]) -> Point:
    means = [r["mean"] for r in records]
    deviations = [r["std"] for r in records if r["std"] is not None]
    indices = [statistics.mean(each) for each in zip(*(r["per_index"] for r in records), strict=True)]
    return Point(
        cell=cell,
        mean=statistics.mean(means),
        groupings=statistics.mean(deviations) if deviations else None,
        seeds=statistics.stdev(means) if len(means) > 1 else None,
        count=len(records),
        indices=(min(indices), max(indices)),
        selected=statistics.mean(r["selected"] for r in records),
        operations=records[0]["operations_ratio"],
        added=records[0]["added_parameters"],
        speed=speeds.get(cell.network),
    )


def markdown(records: Iterable[Record], speeds: Iterable[Record] = ()) -> str:
    """Return all tables, those of which nothing was measured left out."""
    records, speeds = list(records), list(speeds)
    parts = []
    for name, title in TITLES.items():
        found = points(name, records, speeds)
        if found:
            parts += [f"### {title}", _table(name, found)]
    return "\n\n".join(parts)


def _table(name: str, found: Sequence[Point]) -> str:
    """A caption with what all cells share, and one line per cell."""
    columns = {
        "data": [p.cell.dataset for p in found],
        "network": [p.cell.backbone for p in found],
        "width": [f"{p.cell.width:g}" for p in found],
        "first layer": [str(p.cell.first) for p in found],
        "configuration": [f"`{p.cell.configuration}`" + ", taught" * p.cell.taught for p in found],
        "n": [str(p.cell.n) for p in found],
        "mixtures": [str(p.cell.mixtures) for p in found],
        "learning rate": [f"{p.cell.lr:g}" for p in found],
        "shift": [str(p.cell.shift) for p in found],
        "accuracy, %": [f"{p.mean:.2f}" + _plus_minus(p.groupings) for p in found],
        "± seeds": [f"{p.seeds:.2f} ({p.count})" if p.seeds is not None else "–" for p in found],
        "worst … best index": [f"{p.indices[0]:.1f} … {p.indices[1]:.1f}" if p.cell.n > 1 else "–" for p in found],
        "held-out": [f"{p.selected:.2f}" for p in found],
        "notebook": [_maybe(NOTEBOOK.get(p.cell.n) if name == "lenet" else None, ".1f") for p in found],
        "operations saved": [f"{p.operations:.2f}x" for p in found],
        "speed": [_maybe(p.speed, ".2f", "x") for p in found],
        "added parameters": [f"{p.added:,}" for p in found],
        "epochs": [str(p.cell.epochs) for p in found],
    }
    shared = {key: column[0] for key, column in columns.items() if len(set(column)) == 1 and key != "accuracy, %"}
    caption = ", ".join(f"{key} {value}" for key, value in shared.items() if value not in ("–", "1.00x"))
    own = {key: column for key, column in columns.items() if key not in shared}
    lines = [list(own), ["---"] * len(own), *map(list, zip(*own.values(), strict=True))]
    return "\n".join([f"For all: {caption}.", "", *("| " + " | ".join(line) + " |" for line in lines)])


def _maybe(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def _plus_minus(value: float | None) -> str:
    return "" if value is None else f" ± {value:.2f}"


def load(path: Path) -> list[Record]:
    return json.loads(path.read_text())["records"] if path.exists() else []


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/vision.json"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    args = parser.parse_args(argv)
    records, speeds = load(args.results), load(args.results.with_name("vision_speed.json"))
    print(markdown(records, speeds))
    for path in plot({name: points(name, records, speeds) for name in TITLES}, args.images):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
