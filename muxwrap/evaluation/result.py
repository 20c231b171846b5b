"""What an evaluation found."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from muxwrap._util.plots import axes


@dataclass(frozen=True)
class Evaluation:
    """A score under several random groupings of the same rows.

    Args:
        metric: its name.
        n: instances in a mixture.
        rows: rows of the data set; every one was scored in every grouping.
        scores: one per grouping; a bare model has one.
        per_index: one per index of the mixture, the mean over groupings; NaN for an index without labels, and empty where
            it was not asked for.
        flips: share of the predictions that are not the same in all groupings; None for one grouping, or where nothing is
            predicted that could be the same (regression).
        agreement: share of the predictions that are the reference's, the mean over groupings; None without a reference.
        higher_is_better: whether the best index is the one with the highest score.
    """

    metric: str
    n: int
    rows: int
    scores: tuple[float, ...]
    per_index: tuple[float, ...] = ()
    flips: float | None = None
    agreement: float | None = None
    higher_is_better: bool = True

    @property
    def mean(self) -> float:
        """Mean score over the groupings."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the groupings; None for one grouping."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def best(self) -> int | None:
        """The index with the best score."""
        return self._ranked()[-1] if self._ranked() else None

    @property
    def worst(self) -> int | None:
        """The index with the worst score."""
        return self._ranked()[0] if self._ranked() else None

    @property
    def spread(self) -> float | None:
        """The distance between the best index's score and the worst one's."""
        ranked = self._ranked()
        return abs(self.per_index[ranked[-1]] - self.per_index[ranked[0]]) if ranked else None

    def plot(self, ax: Any = None) -> Any:
        """Draw a bar per index, and the mean with its deviation over groupings, on a matplotlib ``Axes``; return it.

        By default on a new one. Where no index was scored on its own, the bars are the groupings.
        """
        ax = axes(ax)
        values = self.per_index or self.scores
        ax.bar(range(len(values)), values)
        ax.axhline(self.mean, color="grey", linestyle=":", label="mean")
        if self.deviation is not None:
            low, high = self.mean - self.deviation, self.mean + self.deviation
            ax.axhspan(low, high, color="grey", alpha=0.3, label="deviation over groupings")
        ax.set(xlabel="index in the mixture" if self.per_index else "grouping", ylabel=self.metric)
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = self._lines()
        widths = [max(len(line[column]) for line in lines) for column in range(2)]
        return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {note}" for name, value, note in lines)

    def table(self) -> str:
        """Return what was found and the score of every grouping, as a table in Markdown."""
        groupings = [(f"grouping {k}", f"{score:.4f}", "") for k, score in enumerate(self.scores, 1)]
        lines = [*self._lines(), *(groupings if len(groupings) > 1 else ())]
        return "\n".join(["| | | |", "| --- | ---: | --- |", *(f"| {' | '.join(line)} |" for line in lines)])

    def _lines(self) -> list[tuple[str, str, str]]:
        deviation = "" if self.deviation is None else f" ± {self.deviation:.4f}"
        count = f"{len(self.scores)} grouping{'s' * (len(self.scores) > 1)}"
        lines = [(self.metric, f"{self.mean:.4f}{deviation}", f"{count} of {self.rows:,} rows, n={self.n}")]
        if self.worst is not None and self.n > 1:
            lines += [
                (f"{which} index", f"{self.per_index[index]:.4f}", f"index {index}")
                for which, index in (("worst", self.worst), ("best", self.best or 0))
            ]
        for name, value, note in (
            ("flips", self.flips, "predictions that change with the companions"),
            ("agreement", self.agreement, "predictions that are the reference's"),
        ):
            lines += [] if value is None else [(name, f"{value:.4f}", note)]
        return lines

    def _ranked(self) -> list[int]:
        """Return the indices that have a score, the worst first."""
        scored = [index for index, value in enumerate(self.per_index) if not math.isnan(value)]
        return sorted(scored, key=lambda index: self.per_index[index], reverse=not self.higher_is_better)
