"""What a chart compares: the trained model, its rivals, and mixtures of the asked kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from muxwrap.defaults import StrategyChoice
from muxwrap.frontiers.registry import as_it_is
from muxwrap.multiplex import Multiplex
from muxwrap.strategies import Orthogonal
from muxwrap.wrapping import wrap

BARE = "as it is"
MIXED = "multiplexed"
FOR_TRAINED: dict[str, Any] = {"orthogonal": partial(Orthogonal, learnable=True, held=True, identity_first=True)}
"""Strategies by name with options that keep a trained trunk alive."""


@dataclass(frozen=True)
class Mixture:
    """How a model is wrapped.

    Args:
        n: instances in a mixture.
        strategy: as in :func:`muxwrap.wrap`.
        mux_at: likewise.
        demux_at: likewise.
    """

    n: int
    strategy: StrategyChoice
    mux_at: str | None
    demux_at: str | None

    def wrap(self, model: nn.Module, example: Any, seed: int) -> Multiplex:
        """Wrap a model; nothing is shuffled, since rows are compared with their own teacher's."""
        choice = FOR_TRAINED.get(self.strategy, self.strategy) if isinstance(self.strategy, str) else self.strategy
        return wrap(
            model,
            self.n,
            choice,
            mux_at=self.mux_at,
            demux_at=self.demux_at,
            example_input=example,
            seed=seed,
            shuffle=False,
        )


@dataclass(frozen=True)
class Candidate:
    """One model of the chart.

    Args:
        name: in the table.
        kind: :data:`BARE`, :data:`MIXED` or the name of the rival.
        make: edits a copy of the trained model.
        train: distil it.
        layers: how many are kept, where they can be counted.
        at: the layer after which is mixed, or the path of a site; None where it is found.
        mixture: how it is wrapped; None for plain models.
    """

    name: str
    kind: str
    make: Callable[[nn.Module], nn.Module] = as_it_is
    train: bool = True
    layers: int | None = None
    at: int | str | None = None
    mixture: Mixture | None = None


@dataclass(frozen=True)
class Skipped:
    """What is not in the chart, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Served:
    """What a rival makes of trained models.

    Args:
        name: in the table.
        kind: the rival's name.
        serve: makes it of a copy.
    """

    name: str
    kind: str
    serve: Callable[[nn.Module], nn.Module]


@dataclass
class Plan:
    """What is to be trained, what is made of trained models afterwards, and what is left out."""

    candidates: list[Candidate]
    served: list[Served]
    skipped: list[Skipped]
