"""The picture of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muxwrap._util.plots import axes
from muxwrap.frontiers.candidates import BARE, MIXED
from muxwrap.frontiers.point import Point

MARKS = "sD^vPX<>phd"


def draw(points: Sequence[Point], front: Sequence[Point], ax: Any = None) -> Any:
    """Draw accuracy against speed-up, a mark for every kind; hollow marks are those that a rival such as int8 served."""
    ax = axes(ax)
    ax.plot(
        [p.speed for p in front], [100 * p.accuracy for p in front], color="grey", linewidth=1, label="front", zorder=1
    )
    kinds = list(dict.fromkeys(point.kind for point in points))
    marks = dict(zip((kind for kind in kinds if kind not in (BARE, MIXED)), MARKS, strict=False))
    for at, kind in enumerate(kinds):
        mark = {BARE: "*", MIXED: "o"}.get(kind) or marks.get(kind, ".")
        for served in dict.fromkeys(point.served for point in points if point.kind == kind):
            own = [point for point in points if (point.kind, point.served) == (kind, served)]
            label = kind if served in (None, kind) else f"{kind}, {served}"
            x, y = [point.speed for point in own], [100 * point.accuracy for point in own]
            color = f"C{at % 10}"
            ax.scatter(x, y, marker=mark, edgecolors=color, facecolors=color if served is None else "none", label=label)
    ax.margins(x=0.15)  # room for the names
    _name(ax, front)
    ax.set(xlabel="speed-up over the trained model", ylabel="accuracy, %")
    ax.legend(fontsize=7)
    return ax


def _name(ax: Any, front: Sequence[Point]) -> None:
    """Write the names of the front beside it, without those that would cover another."""
    size, places = 6, list[tuple[float, float, float]]()
    for point in front:
        at = (point.speed, 100 * point.accuracy)
        x, y = ax.transData.transform(at) * 72 / ax.figure.dpi
        end = x + 0.6 * size * len(point.name)
        if all(abs(y - other) > size + 1 or end < left or x > right for left, right, other in places):
            ax.annotate(point.name, at, (3, 3), textcoords="offset points", fontsize=size)
            places.append((x, end, y))
