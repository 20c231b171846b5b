"""Tables and pictures of the text study, from its results file alone.

python -m benchmarks.studies.text.report [--results docs/results/text.json] [--images docs/images]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]
BARE, NARROW = ("B1", "B2"), ("rival", "block")
ORDER = (*BARE, *NARROW)
TAUGHT = ", taught"
NAMES = {"sst2": "SST-2", "snli": "SNLI", "mnli": "MNLI", "qnli": "QNLI", "wnut17": "WNUT-17", "btc": "BTC"}
SETTINGS = ("dataset", "split", "metric", "layers", "dim", "vocab", "epochs", "train_rows")


class Point(NamedTuple):
    """One cell over its seeds."""

    mean: float
    std: float | None  # over seeds, or over groupings where there is one seed
    selected: float
    low: float  # the worst index
    high: float
    operations: float
    chosen: str  # learning rate, epoch and heads, of the first seed
    seeds: int


Line = dict[int, Point]  # by n


def experiments(records: Iterable[Record]) -> dict[tuple[Any, ...], dict[str, Line]]:
    """Sort records into experiments of equal settings, and there into configurations and n.

    Where a cell was trained in several ways (mixtures of a step, learning rates, heads), the one counts that is best on
    the selection split, in the mean over its seeds.
    """
    cells: dict[tuple[Any, ...], dict[str, dict[int, dict[str, list[Record]]]]] = {}
    for r in records:
        lines = cells.setdefault(tuple(r[key] for key in SETTINGS), {})
        lines.setdefault(configuration(r), {}).setdefault(r["n"], {}).setdefault(r["group"], []).append(r)
    return {
        settings: {name: _line(lines[name]) for name in sorted(lines, key=_rank)}
        for settings, lines in sorted(cells.items())
    }


def markdown(records: Iterable[Record]) -> str:
    """Return all tables, an experiment after the other."""
    parts = []
    for settings, lines in experiments(records).items():
        dataset, split, metric, layers, dim, _, epochs, rows = settings
        parts.append(f"### {NAMES.get(dataset, dataset)}")
        parts.append(
            f"{metric[0].upper() + metric[1:]} on the {split} split in percent; {layers} layers of {dim}, "
            f"{rows:,} training rows, {epochs} epochs."
        )
        parts.append(by_n(lines, _mean))
        if multiplexed(lines):
            parts += ["Distance of the best multiplexed model:", headline(lines)]
            parts += ["Worst and best index:", by_n(multiplexed(lines), lambda p: f"{p.low:.1f} … {p.high:.1f}")]
        parts += ["Operations of B1 over those of the model:", by_n(lines, lambda p: f"{p.operations:.1f}")]
        parts += ["Chosen on the selection split:", by_n(lines, lambda p: p.chosen)]
    return "\n\n".join(parts)


def headline(lines: dict[str, Line]) -> str:
    """Return for every n the multiplexed model that is best on the selection split, and how far it is from the others.

    Those that had a teacher have rows of their own, and are compared with rivals that had one.
    """
    rows = []
    for taught in (False, True):
        alike = comparable(lines, taught)
        for n in sorted({n for line in multiplexed(alike).values() for n in line}):
            best = preferred(multiplexed(alike), n)
            name = next(name for name, line in multiplexed(alike).items() if line.get(n) is best)
            rows.append([str(n), name, f"{best.mean:.1f}", *(gap(alike, n, kind) for kind in (*BARE, "rival"))])
    return table(["n", "chosen on the selection split", "score", "to B1", "to B2", "to the rival"], rows)


def comparable(lines: dict[str, Line], taught: bool) -> dict[str, Line]:
    """Return the configurations that had a teacher, or those that had none, with the bare models, which had none."""
    return {name: line for name, line in lines.items() if (TAUGHT in name) == taught or name.partition(",")[0] in BARE}


def multiplexed(lines: dict[str, Line]) -> dict[str, Line]:
    return {name: line for name, line in lines.items() if name.partition(",")[0] not in ORDER}


def preferred(lines: dict[str, Line], n: int) -> Point | None:
    """Return the point at n, or at 1 for bare models; of several the one that selection prefers."""
    points = [line.get(n, line.get(1)) for line in lines.values()]
    return max((p for p in points if p is not None), key=lambda p: p.selected, default=None)


def gap(lines: dict[str, Line], n: int, kind: str) -> str:
    """Return how many points the preferred multiplexed model is above the preferred one of a kind, such as "rival"."""
    best = preferred(multiplexed(lines), n)
    other = preferred({name: line for name, line in lines.items() if name.startswith(kind)}, n)
    return "–" if best is None or other is None else f"{round(best.mean - other.mean, 1) + 0.0:+.1f}"  # no -0.0


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(records: Iterable[Record], folder: Path) -> list[Path]:
    """Draw score against n, a picture an experiment; bare models are horizontal lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written: dict[Path, None] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for settings, lines in experiments(records).items():
        dataset, split, metric, layers, dim, vocab, epochs, rows = settings
        figure, ax = plt.subplots(figsize=(8.4, 4), layout="constrained")
        for k, (name, line) in enumerate(lines.items()):
            counts, color = list(line), plt.get_cmap("tab20")(k % 20)
            if counts == [1]:
                ax.axhline(line[1].mean, color=color, linestyle="--", label=name)
                continue
            spread = [point.std or 0 for point in line.values()]
            style = {"linestyle": ":", "marker": "s"} if name.partition(",")[0] in NARROW else {"marker": "o"}
            ax.errorbar(
                counts, [p.mean for p in line.values()], yerr=spread, capsize=3, color=color, label=name, **style
            )
        ax.set(xscale="log", xlabel="n (instances in a mixture)", ylabel=f"{metric} in % ({split})")
        ticks = sorted({n for line in lines.values() for n in line})
        ax.set_xticks(ticks, [str(n) for n in ticks])
        ax.set_xticks([], minor=True)
        ax.set_title(
            f"{NAMES.get(dataset, dataset)}, {layers} layers of {dim}, {rows:,} rows, {epochs} epochs", size=10
        )
        ax.grid(alpha=0.3)
        figure.legend(fontsize=8, loc="outside right center")
        path = folder / f"text-{dataset}-{layers}x{dim}-{vocab}-{rows}-{epochs}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        written[path] = None
    return list(written)


def configuration(r: Record) -> str:
    warmed = f", warm-up {r['warm_up']:,}" if r["warm_up"] else ""
    damped = f", crosstalk at {r['crosstalk']:g}" if r.get("crosstalk", 1) != 1 else ""
    return f"{r['configuration']}{warmed}{damped}{TAUGHT * ('teachers' in r)}"


def _rank(name: str) -> tuple[int, str]:
    kind = name.partition(",")[0]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), name)


def _line(cells: dict[int, dict[str, list[Record]]]) -> Line:
    return {n: max(map(_point, cells[n].values()), key=lambda point: point.selected) for n in sorted(cells)}


def _point(records: list[Record]) -> Point:
    means = [r["mean"] for r in records]
    indices = [[r["per_index"][i] for r in records] for i in range(len(records[0]["per_index"]))]
    averages = [statistics.mean(each) for each in indices]
    return Point(
        mean=statistics.mean(means),
        std=statistics.stdev(means) if len(means) > 1 else records[0]["std"],
        selected=statistics.mean(r["selected"] for r in records),
        low=min(averages),
        high=max(averages),
        operations=statistics.mean(r["operations_ratio"] for r in records),
        chosen=_chosen(records[0]),
        seeds=len(records),
    )


def _chosen(r: Record) -> str:
    heads = "" if r["configuration"] in NARROW else f", {r['heads']} heads"  # a narrow model's follow from its width
    return f"{r['lr']:g}, epoch {r['best_epoch']}{heads}"


def _mean(point: Point) -> str:
    spread = "" if point.std is None else f" ± {point.std:.1f}"
    return f"{point.mean:.1f}{spread}" + (f" ({point.seeds} seeds)" if point.seeds > 1 else "")


def by_n(lines: dict[str, Line], show: Callable[[Point], str]) -> str:
    counts = sorted({n for line in lines.values() for n in line})
    rows = ([name, *(show(line[n]) if n in line else "" for n in counts)] for name, line in lines.items())
    return table(["", *(f"n={n}" for n in counts)], rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/text.json"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    args = parser.parse_args(argv)
    records = json.loads(args.results.read_text())["records"]
    print(markdown(records))
    for path in plot(records, args.images):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
