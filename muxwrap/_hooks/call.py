"""One call of a multiplexed model: what it was told of its rows, and what was mixed and separated so far."""

from __future__ import annotations

from torch import Tensor

from muxwrap._hooks.chunks import Pieces
from muxwrap._hooks.grouping import group
from muxwrap._hooks.parts import Parts
from muxwrap._hooks.side_inputs import MASK, RowFacts


class Call(RowFacts):
    """The state of one forward call.

    Args:
        model: what was called.
    """

    def __init__(self, model: Parts) -> None:
        super().__init__(model.n, model.demuxer.prefix_length, model.sites.mask == "always")
        self.model = model
        self.unmarked: int | None = None  # rows of the batch where its ids were marked, which fills the last group
        self.pieces: dict[int, Pieces] = {}  # of stems that run piece by piece
        self.wide: dict[int, Tensor] = {}  # mixtures with channels that the stem's own convolution has no weights for
        self.mixed = [0] * len(model.sites.mux)
        self.separated = [0] * len(model.sites.demux)

    def mask_of(self, k: int) -> Tensor | None:
        """Return the rows' own mask where they are embedded by mux site ``k``."""
        if self.model.sites.mask == "ignored" and not self.model.strategy.reads_mask:
            return None
        mask = self.own.get(MASK if k == 0 else "decoder_" + MASK)
        return mask if mask is None or self.unmarked is None else group(mask, self.n).flatten(0, 1)
