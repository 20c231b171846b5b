"""Pictures of the vision study: accuracy against n, and against speed beside narrower plain networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
            lines = _sorted(tables[name], lambda c: f"{c.dataset}, width {c.width:g}, first layer {c.first}")
            if name == "lenet":
                lines["DataMUX's notebook"] = [(n, mean, 0.0) for n, mean in NOTEBOOK.items()]
            lines = {line: found for line, found in lines.items() if len(found) > 1}
            written.append(_draw(lines, "n (images in a mixture)", folder / f"vision-{name}.png"))
    for name in BY_SPEED:
        found = tables[name]
        if any(p.cell.n > 1 for p in found) and all(p.speed is not None for p in found):
            lines = _sorted(found, lambda c: "plain, narrower" if c.n == 1 else c.configuration, by_speed=True)
            label = "images per second, the whole plain network = 1"
            written.append(_draw(lines, label, folder / f"vision-{name}-speed.png"))
    return written


Line = list[tuple[float, float, float]]  # x, accuracy, deviation


def _sorted(found: Iterable[Any], name: Callable[[Any], str], by_speed: bool = False) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for p in found:
        x = p.speed if by_speed else p.cell.n
        lines.setdefault(name(p.cell), []).append((x, p.mean, p.groupings or 0.0))
    return {line: sorted(points) for line, points in lines.items()}


def _draw(lines: dict[str, Line], label: str, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for line, points in lines.items():
        x, means, deviations = zip(*points, strict=True)
        ours = "notebook" not in line and "plain" not in line
        style = {"marker": "o"} if ours else {"marker": "s", "linestyle": ":", "color": "0.4"}
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
