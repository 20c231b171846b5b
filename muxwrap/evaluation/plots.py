"""What the plots share."""

from __future__ import annotations

from typing import Any


def axes(ax: Any) -> Any:
    """Return the given matplotlib ``Axes``, or a new one."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(5, 4), layout="constrained").add_subplot()


def bars_by_index(values: Any, ax: Any, label: str) -> Any:
    """Draw one bar per index and the mean as a line."""
    ax = axes(ax)
    ax.bar(range(len(values)), values.tolist())
    ax.axhline(values.nanmean().item(), color="grey", linestyle=":", label="mean")
    ax.set(xlabel="index in the mixture", ylabel=label)
    ax.legend()
    return ax
