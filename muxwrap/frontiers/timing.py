"""The speed of all models of a chart, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from muxwrap.throughput import Cell, Configuration, compare


def timed(models: Sequence[tuple[str, nn.Module, Any]], options: dict[str, Any]) -> list[Cell]:
    """Return a cell for every name, model and example of one row, in turn within one run; ratios are to the first."""
    configurations = [Configuration(name, model, example) for name, model, example in models]
    return list(compare(configurations, **options).cells)
