"""Tables and pictures of the vision study, from its results files alone.

python examples/vision/report.py [--results docs/results/vision.json] [--images docs/images]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parent))
from tables import TABLES, Cell

Record = dict[str, Any]
TITLES = {
    "lenet": "LeNet of the published size, MNIST",
    "fashion": "LeNet of the published size, Fashion-MNIST",
    "widths": "Wider LeNets, MNIST",
    "strategies": "Every strategy with its default options, four images a mixture, LeNet, MNIST",
    "mlp": "Perceptron on the pixels",
    "resnet": "Residual network, subset of CIFAR-10",
    "vit": "Vision transformer, subset of CIFAR-10",
}
# DataMUX's notebook, MNIST test images: the best φ for each n. Those are the authors' figures.
NOTEBOOK = {1: 98.6, 2: 97.4, 4: 94.7, 8: 83.7, 16: 53.3}


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
    """One line a cell; a column in which nothing differs or nothing is known is left out."""
    columns = {
        "data": [p.cell.dataset for p in found],
        "width": [f"{p.cell.width:g}" for p in found],
        "first layer": [str(p.cell.first) for p in found],
        "configuration": [f"`{p.cell.configuration}`" for p in found],
        "n": [str(p.cell.n) for p in found],
        "accuracy, %": [f"{p.mean:.2f}" for p in found],
        "± groupings": [_maybe(p.groupings, ".2f") for p in found],
        "± seeds": [f"{p.seeds:.2f} ({p.count})" if p.seeds is not None else "–" for p in found],
        "worst … best index": [f"{p.indices[0]:.1f} … {p.indices[1]:.1f}" if p.cell.n > 1 else "–" for p in found],
        "held-out": [f"{p.selected:.2f}" for p in found],
        "notebook": [_maybe(NOTEBOOK.get(p.cell.n) if name == "lenet" else None, ".1f") for p in found],
        "operations": [f"1/{p.operations:.2f}" for p in found],
        "speed": [_maybe(p.speed, ".2f", "x") for p in found],
        "added parameters": [f"{p.added:,}" for p in found],
        "epochs": [str(p.cell.epochs) for p in found],
    }
    told = {key: column for key, column in columns.items() if len(set(column)) > 1 or key in ("accuracy, %", "epochs")}
    lines = [list(told), ["---"] * len(told), *map(list, zip(*told.values(), strict=True))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _maybe(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def plot(records: Iterable[Record], speeds: Iterable[Record], folder: Path) -> list[Path]:
    """Draw accuracy against n, and against speed where narrower plain networks were measured too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records, speeds, written = list(records), list(speeds), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in TITLES:
        found = points(name, records, speeds)
        if name == "strategies" or not any(p.cell.n > 1 for p in found):
            continue
        rivals = len({p.cell.width for p in found if p.cell.configuration == "bare"}) > 1 and name != "widths"
        if rivals and any(p.speed is None for p in found):
            continue  # not timed yet
        figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
        for line, those in _lines(found, rivals).items():
            x = [p.speed if rivals else p.cell.n for p in those]
            error = [p.groupings or 0 for p in those]
            style = {"linestyle": ":", "marker": "s"} if line == "plain" else {"marker": "o"}
            ax.errorbar(x, [p.mean for p in those], yerr=error, capsize=3, label=line, **style)
        if name == "lenet":
            ax.plot(list(NOTEBOOK), list(NOTEBOOK.values()), linestyle="--", marker="x", label="DataMUX's notebook")
        ticks = sorted({1, 2, 4, *(p.cell.n for p in found)})
        ax.set(xscale="log", ylabel="accuracy on the test images in %", title=TITLES[name])
        ax.set_xlabel("images per second, the whole plain network = 1" if rivals else "n (images in a mixture)")
        ax.set_xticks(ticks, [str(n) for n in ticks])
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
        written.append(folder / f"vision-{name}.png")
        figure.savefig(written[-1], dpi=120)
        plt.close(figure)
    return written


def _lines(found: Sequence[Point], rivals: bool) -> dict[str, list[Point]]:
    """Sort points into lines: a network over n, starting at its bare self, or one over speeds."""
    lines: dict[str, list[Point]] = {}
    for point in found:
        cell = point.cell
        if rivals:
            name = "plain" if cell.configuration == "bare" else cell.configuration
        else:
            name = f"{cell.dataset}, width {cell.width:g}, first layer {cell.first}"
        lines.setdefault(name, []).append(point)
    return {name: line for name, line in lines.items() if rivals or len(line) > 1}


def load(path: Path) -> list[Record]:
    return json.loads(path.read_text())["records"] if path.exists() else []


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/vision.json"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    args = parser.parse_args(argv)
    records, speeds = load(args.results), load(args.results.with_name("vision_speed.json"))
    print(markdown(records, speeds))
    for path in plot(records, speeds, args.images):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
