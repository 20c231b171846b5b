"""What is compared: plain models of less work, and the trunk mixed after a stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

import muxwrap
from benchmarks.studies.convert_images.backbone import FROZEN, fewer_blocks, hold_depthwise
from muxwrap.strategies import Orthogonal

SIDE = 64
STRATEGIES: dict[str, Any] = {
    "orthogonal": partial(Orthogonal, learnable=True, held=True, identity_first=True),
    "slots": "slots",
    "layout": "layout",
}


@dataclass(frozen=True)
class Configuration:
    """A model of the study, made of the teacher's trunk.

    Args:
        kind: ``teacher``, ``plain``, or a key of :data:`STRATEGIES`.
        side: of the images that the stem reads.
        repeats: blocks per stage of the trunk at most; None keeps all.
        after: stage after which instances are mixed, counted from 1; 0 for not at all.
        n: instances per mixture.
        states: learn the teacher's states before the classifier, too (:func:`muxwrap.training.distill`).
    """

    kind: str
    side: int = SIDE
    repeats: int | None = None
    after: int = 0
    n: int = 1
    states: bool = False

    def __str__(self) -> str:
        if self.after:
            return f"{self.kind} after stage {self.after}, n={self.n}" + ", states" * self.states
        smaller = "" if self.side == SIDE else f", {self.side} pixels"
        return self.kind + smaller + ("" if self.repeats is None else f", {self.repeats} blocks a stage")

    def make(self, trunk: nn.Module, example: Tensor, seed: int) -> nn.Module:
        """Return the model, made of a trunk that is changed; ``example`` is what the stem makes of an image."""
        if self.repeats is not None:
            return fewer_blocks(trunk, self.repeats)
        if not self.after:
            return trunk
        made = muxwrap.wrap(
            trunk,
            self.n,
            STRATEGIES[self.kind],
            mux_at=f"blocks.{self.after - 1}" if self.after > FROZEN else f"blocks.{FROZEN}@input",
            demux_at="classifier",
            example_input=example,
            seed=seed,
            shuffle=False,  # a row is compared with its own teacher
        )
        hold_depthwise(made.backbone)
        return made


def configurations() -> Iterator[Configuration]:
    """Yield the models in order of importance, after the teacher."""
    yield from (Configuration("orthogonal", after=4, n=n) for n in (2, 4))
    yield Configuration("plain", side=48)
    yield Configuration("plain", repeats=1)
    yield Configuration("orthogonal", after=4, n=2, states=True)
    yield from (Configuration("orthogonal", after=3, n=n) for n in (2, 4))
    yield Configuration("plain", side=32)
    yield Configuration("plain", repeats=2)
    yield from (Configuration("orthogonal", after=5, n=n) for n in (2, 4))
    yield from (Configuration("slots", after=after, n=n) for after in (4, 5, 3) for n in (2, 4))
    yield from (Configuration("layout", after=3, n=n) for n in (2, 4))
    yield Configuration("plain")
