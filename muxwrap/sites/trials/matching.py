"""Whether the answers of a mixed run are the bare model's, which copies of one input have to get when mixed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from muxwrap._hooks.answers import is_attention, lengths_in
from muxwrap._util.examples import ROWS
from muxwrap._util.meta import is_meta
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.sites.runs import rows
from muxwrap.sites.runs.dry_run import floats_in, unmasked
from muxwrap.sites.runs.rounding import Rounding, distance
from muxwrap.sites.runs.runs import BARE_ROWS, MIXTURES, PADDED_ROWS, Answers, Runs
from muxwrap.sites.trials.independence import check_independent, check_neighbours

Match = Literal["exact", "sound", "wrong"]


class Matching:
    """Compares answers with the bare model's own.

    Args:
        runs: of the backbone.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._rounding = Rounding()

    def match(self, mixed: Answers, padding: bool, twice: bool = False) -> Match:
        """Compare the answers of a mixed run; with ``twice``, of one of both rows of the pair, each of them twice.

        Returns:
            ``"sound"`` if only rows with padding differ (from a convolution that reads it, for example).

        Raises:
            MuxwrapError: the rows of the bare model depend on each other.
        """
        own = self.runs.bare(padding, BARE_ROWS)
        if isinstance(own, str) or isinstance(mixed, str) or len(own) != len(mixed):
            return "wrong"
        if not padding and self.runs.has_other:
            if all(self._equal(a, b) for a, b in self._pairs(own, mixed, padding, twice)):
                return "exact"
            self.settle()
            own = self.runs.bare(padding, BARE_ROWS)
            if isinstance(own, str):
                return "wrong"
        pairs = list(self._pairs(own, mixed, padding, twice))
        if all(self.close(a, b) for a, b in pairs):
            return "exact"
        half = PADDED_ROWS // 2 if padding else 0
        return "sound" if padding and all(self.close(_from(a, half), _from(b, half)) for a, b in pairs) else "wrong"

    def fits(self, mixed: Answers, padding: bool) -> bool:
        """Whether the answers of a mixed run have the bare model's rows, whatever their values are."""
        own = self.runs.bare(padding, BARE_ROWS)
        if isinstance(own, str) or isinstance(mixed, str) or len(own) != len(mixed):
            return False
        return all(a.shape == b.shape for a, b in self._pairs(own, mixed, padding))

    def astray(self, mixed: Answers) -> list[int]:
        """Return which answers of a mixed run without padding are not the bare model's, if others are."""
        own = self.runs.bare(False, BARE_ROWS)
        if isinstance(own, str) or isinstance(mixed, str) or len(own) != len(mixed):
            return []
        self.settle()
        own = self.runs.bare(False, BARE_ROWS)
        if isinstance(own, str):
            return []
        wrong = [
            at
            for at, pair in enumerate(zip(own, mixed, strict=True))
            if not all(self.close(a, b) for a, b in self._pairs([pair[0]], [pair[1]], False, first=at))
        ]
        return wrong if len(wrong) < len(own) else []

    def close(self, own: Tensor, mixed: Tensor) -> bool:
        """Whether answers are equal but for rounding and noise."""
        return self._equal(own, mixed) or distance(own, mixed) <= 50 * self._noise

    @property
    def noise_explains(self) -> bool:
        """Whether answers were taken for equal, or not compared, for the noise of the bare model's."""
        return "_noise" in vars(self) and self._noise > 1e-5

    @property
    def reproducible(self) -> bool:
        """Whether the bare model gives a row the same answer whatever else is in the batch."""
        return self._noise < 0.01

    def _equal(self, own: Tensor, mixed: Tensor) -> bool:
        apart = distance(own, mixed)
        return apart <= 1e-5 or (apart <= 0.02 and self._rounding.coarse(own))

    @cached_property
    def _noise(self) -> float:
        """How far the bare model's answers to one row are apart in batches of two sizes, relative to the largest."""
        noise = self._noise_now()
        if noise > 1e-5 and self.runs.has_other:
            self.settle()
            noise = self._noise_now()
        return noise

    def _noise_now(self) -> float:
        three, two = self.runs.bare(False, ROWS), self.runs.bare(False, BARE_ROWS)
        if isinstance(three, str) or isinstance(two, str):
            return 0.0
        if len(three) != len(two):  # an answer per row, of which one has two rows by chance
            raise MuxwrapError(rows.no_rows(self.runs.backbone, [tuple(each.shape) for each in two], BARE_ROWS))
        pairs = (
            (a, b) for a, b in zip(three, two, strict=True) if a.shape[:1] == (ROWS,) and b.shape[:1] == (BARE_ROWS,)
        )
        return max((distance(b[[rows.OWN] * ROWS], a) for a, b in pairs), default=0.0)

    # -- which numbers belong together --------------------------------------------------------------------------------

    def _pairs(
        self, own: list[Tensor], mixed: list[Tensor], padding: bool, twice: bool = False, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the bare model's answers and those of a mixed run to the same rows, without what belongs to mixtures."""
        both = padding or twice
        copies = [0, 0, 1, 1] if both else [rows.OWN] * ROWS
        kept = [2, 3] if twice and not self.runs.has_other else list(range(len(copies)))  # the bare answers to copies
        for at, (a, b) in enumerate(zip(own, mixed, strict=True), first):
            axis = self._row_axis(at, a, b, len(copies))
            if axis is None:
                yield self._of_all_rows(at, a, b, padding, twice), b
                continue
            if self._of_mixtures(at, a, b, axis):
                continue
            expected = a.index_select(axis, torch.tensor(copies, device=a.device))
            if b.shape == expected.shape:
                expected, b = (x.index_select(axis, torch.tensor(kept, device=x.device)) for x in (expected, b))
            yield self.read(expected), self.read(b)

    def _row_axis(self, at: int, own: Tensor, mixed: Tensor, count: int) -> int | None:
        """Return the axis of an answer that is that of rows, or None where it has none.

        Raises:
            MuxwrapError: it has two.
        """
        if own.ndim == mixed.ndim:
            axes = [k for k in range(own.ndim) if own.shape[k] != mixed.shape[k]]
            if len(axes) == 1 and (own.shape[axes[0]], mixed.shape[axes[0]]) == (BARE_ROWS, count):
                return axes[0]
        if BARE_ROWS not in own.shape:
            return None
        two, three = self.runs.bare(False, BARE_ROWS), self.runs.bare(False, ROWS)
        if isinstance(two, str) or isinstance(three, str) or len(two) != len(three):
            return 0
        axes = [k for k in range(min(two[at].ndim, three[at].ndim)) if two[at].shape[k] != three[at].shape[k]]
        if len(axes) > 1:
            raise MuxwrapError(rows.square(self.runs.backbone, tuple(own.shape)))
        return axes[0] if axes else None

    def _of_all_rows(self, at: int, own: Tensor, mixed: Tensor, padding: bool, twice: bool) -> Tensor:
        """Return the bare model's answer that is one for all rows, a loss: of as many rows where two do not do."""
        if self.runs.has_other or self._equal(own, mixed):
            return own
        whole = self.runs.bare_twice if twice else self.runs.bare(padding, PADDED_ROWS if padding else ROWS)
        return own if isinstance(whole, str) else whole[at]

    def _of_mixtures(self, at: int, own: Tensor, mixed: Tensor, axis: int) -> bool:
        """Whether an answer is attention of the trunk, or the state of a recurrent layer there: it belongs to mixtures."""
        if mixed.ndim != own.ndim or mixed.shape[axis] != MIXTURES or mixed.shape != own.shape:
            return False
        return at in self._states or (
            axis == 0 and not is_meta(own) and is_attention(own, lengths_in(self.runs.example))
        )

    @cached_property
    def _states(self) -> set[int]:
        seen = self.runs.trace
        found = enumerate(floats_in(seen.output))
        return {at for at, answer in found if any(answer is state for state in seen.states)}

    def read(self, answer: Tensor) -> Tensor:
        """Return an answer without that at the padding, which nobody reads."""
        tokens = first_tensor(self.runs.example)
        if tokens is None or tokens.ndim < 2 or answer.ndim < 2 or answer.shape[1] != tokens.shape[1]:
            return answer
        if is_meta(answer):
            return answer
        return answer[:, unmasked(answer.shape[1], answer.device)]

    def settle(self) -> None:
        """Take copies for the other row of the bare run, once it is known that it makes no difference to its neighbour.

        Raises:
            MuxwrapError: rows depend on each other.
        """
        if self.runs.has_other:
            check_independent(self.runs, self._row_axis)

    def check_neighbours(self) -> None:
        """Refuse rows that depend on those which are nearly the same.

        Raises:
            MuxwrapError: they do.
        """
        check_neighbours(self.runs, self._row_axis)


def _from(answer: Tensor, start: int) -> Tensor:
    return answer[start:] if answer.ndim else answer
