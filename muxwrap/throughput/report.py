"""The result of a measurement: cells, as a table, as JSON records and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muxwrap._util.plots import axes


@dataclass(frozen=True)
class Cell:
    """One configuration, measured.

    Args:
        name: of the configuration.
        n: instances in a mixture; 1 is the bare model.
        dtype: of the weights.
        strategy: name of φ, None for the bare model.
        demux: name of the demuxer, None for the bare model.
        rows: instances in a call, the number that was fastest for this configuration.
        instances_per_second: median over the rounds.
        ratio_to_bare: median over the rounds of the ratio to the bare model of the same dtype, within a round.
        ratio_to_first: likewise to the first configuration of the run; another number only where dtypes differ.
        latency: seconds per call, median.
        activation_bytes: peak memory of one call beyond weights, per instance.
        flops: floating-point operations of one call, per instance (a multiplication and an addition are two).
        added_parameters: parameters beside the backbone's.
        rounds: number of rounds that the medians are over.
    """

    name: str
    n: int
    dtype: str
    strategy: str | None
    demux: str | None
    rows: int
    instances_per_second: float
    ratio_to_bare: float
    ratio_to_first: float
    latency: float
    activation_bytes: float
    flops: float
    added_parameters: int
    rounds: int


_OVER_FIRST = "over bare {first}"
_COLUMNS: dict[str, Callable[[Cell], str]] = {
    "model": lambda cell: cell.name,
    "dtype": lambda cell: cell.dtype,
    "rows/call": lambda cell: str(cell.rows),
    "instances/s": lambda cell: f"{cell.instances_per_second:,.1f}",
    "speed-up": lambda cell: f"{cell.ratio_to_bare:.2f}",
    _OVER_FIRST: lambda cell: f"{cell.ratio_to_first:.2f}",
    "ms/call": lambda cell: f"{cell.latency * 1e3:,.1f}",
    "GFLOP/instance": lambda cell: f"{cell.flops / 1e9:,.3f}",
    "activation MB/instance": lambda cell: f"{cell.activation_bytes / 2**20:,.3f}",
    "added": lambda cell: f"{cell.added_parameters:,}",
}


@dataclass(frozen=True)
class Report:
    """Cells of one run, the bare model's first."""

    cells: Sequence[Cell]

    def __getitem__(self, n: int) -> Cell:
        return next(cell for cell in self.cells if cell.n == n)

    @property
    def fastest(self) -> Cell:
        """The cell with the most instances per second, by its ratios within rounds."""
        return max(self.cells, key=lambda cell: cell.ratio_to_first)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of the cells, the first one's first."""
        return list(dict.fromkeys(cell.dtype for cell in self.cells))

    def records(self, **labels: Any) -> list[dict[str, Any]]:
        """Return JSON records, one per cell, each with the ``labels`` (backbone, length, ...)."""
        return [{**labels, **asdict(cell)} for cell in self.cells]

    def table(self) -> str:
        """Return the table as Markdown, which is also readable as it is."""
        columns = dict(_COLUMNS)
        if len(self.dtypes) == 1:
            del columns[_OVER_FIRST]
        titles = [title.format(first=self.dtypes[0]) for title in columns]
        lines = [titles, ["---"] * 2 + ["---:"] * (len(titles) - 2)]
        lines += [[show(cell) for show in columns.values()] for cell in self.cells]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __str__(self) -> str:
        return self.table()

    def plot(self, ax: Any = None) -> Any:
        """Draw speed-up against n beside the bound, which is n: a line per dtype, over the bare model of that dtype.

        Args:
            ax: a matplotlib ``Axes``; a new one by default.

        Returns:
            The ``Axes``.
        """
        ax = axes(ax)
        counts = sorted({cell.n for cell in self.cells})
        ax.plot(counts, counts, linestyle=":", color="grey", label="bound")
        for dtype in self.dtypes:
            cells = [cell for cell in self.cells if cell.dtype == dtype]
            ax.plot([cell.n for cell in cells], [cell.ratio_to_bare for cell in cells], marker="o", label=dtype)
        ax.set(xlabel="n (instances in a mixture)", ylabel="speed-up over the bare model", xscale="log", yscale="log")
        ax.legend()
        return ax
