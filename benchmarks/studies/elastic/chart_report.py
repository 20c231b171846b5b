"""The table of the chart: every model in the dtype that it was trained in, and what else is on the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEAD = "| model | accuracy, % | speed-up | on the front |"


def rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for every point, the slowest first; int8 of other models than the trained one only on the front."""
    points = [r for r in records if "speed" in r and (r["served"] is None or r["front"] or r["name"] == r["served"])]
    return [
        [r["name"], f"{100 * r['accuracy']:.1f}", f"{r['speed']:.2f}x", "yes" if r["front"] else ""]
        for r in sorted(points, key=lambda r: r["speed"])
    ]


def said(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the chart says in sentences."""
    return [r["said"] for r in records if "said" in r]
