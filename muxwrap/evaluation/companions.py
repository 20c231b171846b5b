"""Whether one instance's state stays the same beside other companions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap._util.nested import replace_object, tensors_in
from muxwrap._util.plots import axes
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.states import rows_of, state
from muxwrap.multiplex import Multiplex, check_wrapped


@dataclass(frozen=True)
class CompanionSimilarity:
    """Cosines of states at one index.

    Args:
        same: for every anchor the mean cosine of its states beside two draws of companions; 1 if they do not matter.
        different: for every anchor the mean cosine with the other anchors' states, what ``same`` is to be compared with.
    """

    same: Tensor
    different: Tensor

    def plot(self, ax: Any = None) -> Any:
        """Draw both for every anchor on a matplotlib ``Axes`` (a new one by default), and return it."""
        ax = axes(ax)
        ax.plot(self.same.tolist(), "o", label="same anchor, other companions")
        ax.plot(self.different.tolist(), "x", label="other anchors")
        ax.set(xlabel="anchor", ylabel="cosine", ylim=(min(0.0, self.different.min().item()) - 0.05, 1.05))
        ax.legend()
        return ax


def companion_similarity(
    model: Multiplex, anchors: Any, pool: Any, *, index: int = 0, draws: int = 8, seed: int = 0
) -> CompanionSimilarity:
    """Put every anchor beside ``draws`` random draws of companions and compare its states behind the demuxer (DataMUX).

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back.
        anchors: a batch of two or more rows: a tensor, a tuple of arguments or a dict of keyword arguments.
        pool: a batch of the same form; companions are drawn from it.
        index: where the anchors stand.
        draws: how often companions are drawn, two or more.
        seed: of the draws.

    Raises:
        MuxwrapError: the model is not wrapped, fewer than two anchors or draws, no such index, or a pool of another
            form.
    """
    check_wrapped(model, "companion_similarity")
    rows = rows_of(anchors)
    if rows < 2 or draws < 2:
        raise MuxwrapError(
            f"companion_similarity: {rows} anchors in draws={draws} of companions; give two or more of each"
        )
    if not 0 <= index < model.n:
        raise MuxwrapError(f"companion_similarity: index={index} in mixtures of n={model.n}; give 0 ... {model.n - 1}")
    if [a.shape[1:] for a in tensors_in(anchors)] != [c.shape[1:] for c in tensors_in(pool)]:
        raise MuxwrapError("companion_similarity: the pool's tensors are not of the anchors' shapes; pad both alike")
    generator = torch.Generator().manual_seed(seed)
    states = []
    with quiet(model):
        for _ in range(draws):
            drawn = torch.randint(rows_of(pool), (rows, model.n), generator=generator)
            batch = anchors
            for anchor, companion in zip(tensors_in(anchors), tensors_in(pool), strict=True):
                together = companion[drawn]
                together[:, index] = anchor
                batch = replace_object(batch, anchor, together.flatten(0, 1))
            states.append(state(model, batch).unflatten(0, (rows, model.n))[:, index].cpu())
    return _compare(F.normalize(torch.stack(states), dim=-1))


def _compare(states: Tensor) -> CompanionSimilarity:
    """Average the cosines of unit vectors ``[draws, anchors, features]``."""
    draws, anchors, _ = states.shape
    totals = states.sum(0)  # Σ over pairs of draws of <a, b> is <Σ a, Σ b>
    pairs = totals @ totals.T
    same = (pairs.diagonal() - draws) / (draws * (draws - 1))
    different = (pairs.sum(1) - pairs.diagonal()) / (draws**2 * (anchors - 1))
    return CompanionSimilarity(same, different)
