"""What the plots share."""

from __future__ import annotations

from typing import Any

from muxwrap.errors import MuxwrapError


def axes(ax: Any) -> Any:
    """Return the given matplotlib ``Axes``, or a new one."""
    return figures().Figure(figsize=(5, 4), layout="constrained").add_subplot() if ax is None else ax


def figures() -> Any:
    """Return the module ``matplotlib.figure``.

    Raises:
        MuxwrapError: matplotlib is not installed.
    """
    try:
        from matplotlib import figure
    except ModuleNotFoundError as error:
        raise MuxwrapError(f"plot: matplotlib is not installed ({error}); pip install 'muxwrap[plot]'") from error
    return figure


def bars_by_index(values: Any, ax: Any, label: str) -> Any:
    """Draw one bar per index and the mean as a line."""
    ax = axes(ax)
    ax.bar(range(len(values)), values.tolist())
    ax.axhline(values.nanmean().item(), color="grey", linestyle=":", label="mean")
    ax.set(xlabel="index in the mixture", ylabel=label)
    ax.legend()
    return ax
