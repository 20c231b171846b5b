"""The table of the trace: how accurate each server's answers are where they come in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LOADS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # mean rate, over what the trained model can do
LATE = 0.01  # share of the answers that may be late
HEAD = "| load | " + " | ".join(f"{load:.0%}" for load in LOADS) + " |"


def rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for every server: accuracy in percent, or how many answers are late where too many are."""
    found = []
    for name in dict.fromkeys(r["server"] for r in records):
        own = {r["load"]: r for r in records if r["server"] == name}
        found.append([name, *(_cell(own[load]) if load in own else "–" for load in LOADS)])
    return found


def _cell(record: dict[str, Any]) -> str:
    late = record["missed"]
    return f"{record['accuracy']:.1f}" if late <= LATE else f"late: {late:.0%}"
