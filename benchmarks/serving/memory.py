"""Memory and processor time of a process and its children, from Linux's ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(process: int) -> list[int]:
    """Return the ids of a process and of all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found


def megabytes(process: int) -> float:
    """Return the memory of a process and its descendants; what several share counts once."""
    total = 0
    for each in tree(process):
        with suppress(OSError):
            lines = (PROC / str(each) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def processor(process: int) -> dict[int, float]:
    """Return the seconds of a core that a process and each of its descendants have taken."""
    found = {}
    for each in tree(process):
        with suppress(OSError):
            words = (PROC / str(each) / "stat").read_text().rpartition(")")[2].split()
            found[each] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return found


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the growth per unit of time, by least squares."""
    count = len(times)
    mean_time, mean_value = sum(times) / count, sum(values) / count
    spread = sum((time - mean_time) ** 2 for time in times)
    return sum((t - mean_time) * (v - mean_value) for t, v in zip(times, values, strict=True)) / spread
