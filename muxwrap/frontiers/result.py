"""A chart: its points, and which of them to take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError, known_names
from muxwrap.frontiers.candidates import BARE, Skipped
from muxwrap.frontiers.plot import draw
from muxwrap.frontiers.point import Point
from muxwrap.frontiers.sentence import sentence


@dataclass(frozen=True)
class Frontier:
    """Accuracy against measured speed: ``print`` it, or ``plot`` it.

    Args:
        points: the trained model first.
        skipped: what was left out, and why.
        facts: the machine, the steps, and how many rows were scored.
    """

    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...]
    facts: dict[str, Any]
    _build: Callable[[Point], nn.Module] = field(repr=False, compare=False)

    @property
    def bare(self) -> Point:
        """The trained model as it is."""
        return next(point for point in self.points if point.kind == BARE and point.served is None)

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that none beats in both accuracy and speed, the slowest first."""
        found: list[Point] = []
        for point in sorted(self.points, key=lambda each: (-each.speed, -each.accuracy)):
            if not found or point.accuracy > found[-1].accuracy:
                found.append(point)
        return tuple(reversed(found))

    def best(self, points: float = 2.0, multiplexed: bool | None = None, served: bool | None = None) -> Point:
        """Return the fastest model that is at most so many points of accuracy below the trained one.

        Args:
            points: of a hundred.
            multiplexed: only multiplexed models, or (False) only plain ones.
            served: False leaves out what a rival such as int8 serves: the others can be distilled further and saved. True
                takes nothing else.

        Raises:
            MuxwrapError: ``points`` is below 0, or no such model is as accurate.
        """
        if not points >= 0:
            raise MuxwrapError(f"best(points={points!r}): how much accuracy may be lost, 0 or more")
        least = self.bare.accuracy - points / 100
        found = [
            each
            for each in self.points
            if each.accuracy >= least - 1e-9
            and multiplexed in (None, each.multiplexed)
            and served in (None, each.served is not None)
        ]
        if not found:
            raise MuxwrapError(
                f"best(points={points:g}, multiplexed={multiplexed}, served={served}): none is within {points:g} points of the "
                f"{self.bare.accuracy:.1%}; give more points, or more steps to the chart"
            )
        return max(found, key=lambda each: each.speed)

    def sentence(self, points: float = 2.0) -> str:
        """Say what so many points of accuracy buy, and whether a rival buys more."""
        try:
            mixed = self.best(points, multiplexed=True)
        except MuxwrapError:
            mixed = None
        return sentence(points, self.bare, self.best(points, multiplexed=False), mixed)

    def model(self, point: Point | str) -> nn.Module:
        """Return a model of the chart with its trained weights, in evaluation mode.

        A multiplexed one is what :func:`muxwrap.wrap` returns; its ``save_pretrained`` writes it down.

        Raises:
            MuxwrapError: there is no such point, or the chart was made without a folder.
        """
        if isinstance(point, str):
            named = {each.name: each for each in self.points}
            if point not in named:
                raise MuxwrapError(f"Frontier.model({point!r}): no such point; {known_names(point, named)}")
            point = named[point]
        return self._build(point)

    def records(self, **labels: Any) -> list[dict[str, Any]]:
        """Return JSON records, one per point and one per thing left out, each with the facts and the ``labels``."""
        front = {each.name for each in self.front}
        found = [{**labels, **self.facts, **asdict(each), "front": each.name in front} for each in self.points]
        return found + [{**labels, **self.facts, "name": each.name, "skipped": each.reason} for each in self.skipped]

    def table(self) -> str:
        """Return the table as Markdown; the points of the front are marked with a star."""
        front = {each.name for each in self.front}
        lines = [["model", "", "accuracy", "agreement", "speed-up", "instances/s", "dtype"]]
        lines += [["---", "---", "---:", "---:", "---:", "---:", "---"]]
        for each in sorted(self.points, key=lambda point: point.speed):
            accuracy = f"{each.accuracy:.1%}" + (f" ± {100 * each.deviation:.1f}" if each.deviation is not None else "")
            agreement = "" if each.agreement is None else f"{each.agreement:.1%}"
            kind = each.kind if each.name != each.kind else ""
            speed, rate = f"{each.speed:.2f}", f"{each.instances_per_second:,.0f}"
            lines.append(
                [each.name + (" *" if each.name in front else ""), kind, accuracy, agreement, speed, rate, each.dtype]
            )
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __str__(self) -> str:
        rows = self.facts["rows"]
        share = (self.bare.accuracy * rows + 1) / (rows + 2)  # rule of succession: some error is left at 100 %, too
        error = math.sqrt(share * (1 - share) / rows)
        parts = [self.table(), f"Accuracy on {rows:,} rows, whose standard error is {100 * error:.1f} points."]
        if self.facts["class token alone"]:
            parts.append(
                "The last layer of every trained rival computes the class token alone: the head reads nothing else."
            )
        parts += [f"Left out, {each.name}: {each.reason}" for each in self.skipped]
        return "\n\n".join([*parts, self.sentence()])

    def plot(self, ax: Any = None) -> Any:
        """Draw accuracy against speed-up: the front as a line, multiplexed models filled, rivals with a mark each.

        Args:
            ax: a matplotlib ``Axes``; a new one by default.

        Returns:
            The ``Axes``.
        """
        return draw(self.points, self.front, ax)
