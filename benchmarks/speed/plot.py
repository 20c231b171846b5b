"""The pictures of the throughput page, from its JSON alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PANELS = {"growth_n": ("n", "instances n"), "growth_length": ("length", "tokens L")}
PANELS |= {
    "growth_depth": ("layers", "layers"),
    "growth_width": ("width", "width d"),
    "batch": ("mixtures", "mixtures per call"),
}


def draw(results: Path, pictures: Path) -> None:
    """Draw the speed-up against n, and what it depends on."""
    cells = json.loads(results.read_text())["records"]
    studies: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        studies.setdefault(cell["study"], []).append(cell)
    pictures.mkdir(parents=True, exist_ok=True)
    if "sequence" in studies:
        _bound(studies["sequence"], pictures / "throughput.png")
    if PANELS.keys() <= studies.keys():
        _growth(studies, pictures / "throughput_growth.png")


def _bound(cells: list[dict[str, Any]], path: Path) -> None:
    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    counts = sorted({cell["n"] for cell in cells})
    ax.plot(counts, counts, linestyle=":", color="grey", label="bound")
    for number, dtype in enumerate(dict.fromkeys(cell["dtype"] for cell in cells)):
        own = [cell for cell in cells if cell["dtype"] == dtype]
        color = f"C{number}"
        ax.plot([c["n"] for c in own], [c["ratio_to_bare"] for c in own], marker="o", color=color, label=dtype)
        predicted = [(cell["n"], cell["predicted"]) for cell in own if cell.get("predicted")]
        label = f"{dtype}, predicted"
        ax.plot(*zip(*predicted, strict=True), marker="x", linestyle="none", color=color, label=label)
    ax.set(xlabel="instances n in a mixture", ylabel="speed-up over bare, same dtype", title=cells[0]["backbone"])
    ax.legend()
    figure.savefig(path, dpi=120)


def _growth(studies: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(PANELS), figsize=(3 * len(PANELS), 3), sharey=True, layout="constrained")
    for ax, (study, (key, title)) in zip(axes, PANELS.items(), strict=True):
        cells = studies[study]
        ax.plot([cell[key] for cell in cells], [cell["ratio_to_bare"] / cell["n"] for cell in cells], marker="o")
        ax.set(xlabel=title, xscale="log", ylim=(0, 1.1))
        ax.set_xticks([cell[key] for cell in cells], [str(cell[key]) for cell in cells])
        ax.minorticks_off()
        ax.axhline(1, linestyle=":", color="grey")
    axes[0].set_ylabel("share of the bound, speed-up / n")
    figure.savefig(path, dpi=120)
