"""A point of a chart."""

from __future__ import annotations

from dataclasses import dataclass

from muxwrap.frontiers.candidates import MIXED


@dataclass(frozen=True)
class Point:
    """One model of a chart.

    Args:
        name: what it is.
        kind: "as it is", "multiplexed" or the name of the rival.
        layers: how many are kept, where they can be counted.
        at: the layer after which is mixed, or the path of the site; None for plain models, or where it is found.
        n: instances in a mixture; 1 for plain models.
        strategy: name of φ; None for plain models.
        served: the name of what was done to the trained model, such as "int8"; None for nothing.
        trained: whether it was distilled.
        accuracy: 0 to 1, the mean over groupings.
        deviation: of the accuracy over groupings; None for plain models.
        agreement: with the trained model on the held-out rows; None where nothing was trained.
        speed: how many times as many instances per second as the trained model as it is, the median over rounds.
        instances_per_second: median over rounds.
        rows: instances in a call, the number at which it is fastest.
        dtype: of the weights.
    """

    name: str
    kind: str
    layers: int | None
    at: int | str | None
    n: int
    strategy: str | None
    served: str | None
    trained: bool
    accuracy: float
    deviation: float | None
    agreement: float | None
    speed: float
    instances_per_second: float
    rows: int
    dtype: str

    @property
    def multiplexed(self) -> bool:
        """Whether rows share a pass."""
        return self.kind == MIXED
