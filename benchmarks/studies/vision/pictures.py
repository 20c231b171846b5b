"""Pictures of the vision study: accuracy against n, and against speed beside narrower plain networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BY_N = ("lenet", "fashion", "widths", "mlp")
BY_SPEED = ("lenet", "fashion", "resnet", "vit")
# DataMUX's notebook, MNIST test images: the best φ for each n. Those are the authors' figures.
NOTEBOOK = {1: 98.6, 2: 97.4, 4: 94.7, 8: 83.7, 16: 53.3}


def plot(tables: Mapping[str, Sequence[Any]], folder: Path) -> list[Path]:
    """Draw the points of every table; those by speed only where all of a table was timed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in BY_N:
        if any(p.cell.n > 1 for p in tables[name]):
            lines = _from_bare(tables[name])
            if name == "lenet":
                lines["DataMUX's notebook"] = [(n, mean, 0.0) for n, mean in NOTEBOOK.items()]
            written.append(_draw(lines, "n (images in a mixture)", folder / f"vision-{name}.png"))
    for name in BY_SPEED:
        found = tables[name]
        if any(p.cell.n > 1 for p in found) and all(p.speed is not None for p in found):
            lines = {}
            for p in found:
                line = p.cell.method.replace("bare", "plain, narrower")
                lines.setdefault(line, []).append((p.speed, p.mean, p.groupings or 0.0))
            label = "images per second, the whole plain network = 1"
            written.append(_draw(lines, label, folder / f"vision-{name}-speed.png"))
    return written


Line = list[tuple[float, float, float]]  # x, accuracy, deviation


def _from_bare(found: Iterable[Any]) -> dict[str, Line]:
    """Return a line over n for every network and configuration; it begins at the same network without multiplexing."""
    starts: dict[tuple[Any, ...], tuple[float, float, float]] = {}
    lines: dict[tuple[Any, ...], Line] = {}
    for p in sorted(found, key=lambda p: (p.cell.n, p.cell.taught)):
        network, point = (p.cell.dataset, p.cell.width, p.cell.first), (p.cell.n, p.mean, p.groupings or 0.0)
        if p.cell.n == 1:
            starts.setdefault(network, point)
        else:
            begun = [starts[network]] if network in starts else []
            lines.setdefault((*network, p.cell.method), begun).append(point)
    return {f"{data}, width {width:g}, {said}": line for (data, width, _, said), line in lines.items()}


def _draw(lines: dict[str, Line], label: str, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for line, points in lines.items():
        x, means, deviations = zip(*sorted(points), strict=True)
        ours = "notebook" not in line and "plain" not in line
        style = (
            {"marker": "o"} if ours else {"marker": "s", "linestyle": "--" if "taught" in line else ":", "color": "0.4"}
        )
        ax.errorbar(x, means, yerr=deviations, capsize=3, label=line, **style)
    ax.set(xscale="log", xlabel=label, ylabel="accuracy on the test images in %")
    last = max(x for points in lines.values() for x, *_ in points)
    ticks = [n for n in (1, 2, 4, 8, 16, 32) if n <= max(4, last * 1.2)]
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.set_xticks([], minor=True)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
