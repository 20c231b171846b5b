"""The picture of the trace: right answers in time against the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a line for every server; a late answer counts as a wrong one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name in dict.fromkeys(r["server"] for r in records):
        own = [r for r in records if r["server"] == name]
        style = {"linewidth": 2.5, "color": "black"} if name == "elastic" else {"linewidth": 1}
        dashes = "--" if name.startswith("plain") else "-"
        right = [r["accuracy"] * (1 - r["missed"]) for r in own]
        ax.plot([r["load"] for r in own], right, dashes, marker=".", label=name, **style)
    best = max(r["accuracy"] for r in records)
    ax.set(ylim=(best - 15, best + 1), xlabel="load, the most that the trained model can do = 1")
    ax.set_ylabel("right and in time, %")
    ax.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
