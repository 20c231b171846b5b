"""What a measurement found: cells, as a table, as JSON records and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One configuration, measured.

    Args:
        name: of the configuration.
        n: instances in a mixture; 1 is the bare model.
        strategy: name of φ, None for the bare model.
        demux: name of the demuxer, None for the bare model.
        rows: instances in a call, the number that was fastest for this configuration.
        instances_per_second: median over the rounds.
        ratio_to_bare: median over the rounds of the ratio to the bare model within the same round.
        latency: seconds a call, median.
        activation_bytes: peak memory of one call beyond weights, an instance.
        flops: floating-point operations of one call, an instance (a multiplication and an addition are two).
        added_parameters: numbers beside the backbone's.
        rounds: how many rounds the medians are over.
    """

    name: str
    n: int
    strategy: str | None
    demux: str | None
    rows: int
    instances_per_second: float
    ratio_to_bare: float
    latency: float
    activation_bytes: float
    flops: float
    added_parameters: int
    rounds: int


@dataclass(frozen=True)
class Report:
    """Cells of one run, the bare model's first."""

    cells: Sequence[Cell]

    def __getitem__(self, n: int) -> Cell:
        return next(cell for cell in self.cells if cell.n == n)

    def records(self, **common: Any) -> list[dict[str, Any]]:
        """Return JSON records, one a cell, each with the ``common`` facts (backbone, length, dtype, ...)."""
        return [{**common, **asdict(cell)} for cell in self.cells]

    def table(self) -> str:
        """Return the table as Markdown, which is also readable as it is."""
        head = (
            "| model | rows/call | instances/s | speed-up | ms/call | GFLOP/instance | activation MB/instance | added |"
        )
        lines = [head, "|---|" + "---:|" * 7]
        lines += [
            f"| {cell.name} | {cell.rows} | {cell.instances_per_second:,.1f} | "
            f"{cell.ratio_to_bare:.2f} | {cell.latency * 1e3:,.1f} | {cell.flops / 1e9:,.3f} | "
            f"{cell.activation_bytes / 2**20:,.3f} | {cell.added_parameters:,} |"
            for cell in self.cells
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def plot(self, ax: Any = None) -> Any:
        """Draw speed-up against n beside the bound, which is n.

        Args:
            ax: a matplotlib ``Axes``; a new one by default.

        Returns:
            The ``Axes``.
        """
        if ax is None:
            from matplotlib import pyplot as plt

            ax = plt.figure(figsize=(5, 4)).add_subplot()
        counts = [cell.n for cell in self.cells]
        ax.plot(counts, counts, linestyle=":", color="grey", label="bound")
        ax.plot(counts, [cell.ratio_to_bare for cell in self.cells], marker="o", label="measured")
        ax.set(xlabel="n (instances in a mixture)", ylabel="speed-up over the bare model", xscale="log", yscale="log")
        ax.legend()
        return ax
