"""Whether the index at which a row stood can be read from what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.probes import least_squares, pooled, take
from muxwrap.evaluation.states import rows_of
from muxwrap.multiplex import Multiplex, check_wrapped


@dataclass(frozen=True)
class IndexTrace:
    """What can be read of the index, over rows that the probe did not see.

    Args:
        accuracy: of a linear probe, 0 to 1.
        nearest: share of rows whose nearest neighbour by cosine stands at the same index, among rows of other mixtures.
        chance: 1/n, what both are where nothing can be read.
        rows: how many were asked.
    """

    accuracy: float
    nearest: float
    chance: float
    rows: int

    @property
    def deviation(self) -> float:
        """The standard deviation of either share at chance: sqrt(chance · (1 - chance) / rows)."""
        return float((self.chance * (1 - self.chance) / self.rows) ** 0.5)


def index_readable(model: Multiplex, batches: Iterable[Any], *, seed: int = 0) -> IndexTrace:
    """Fit a linear probe to the index on half of the mixtures' separated states, and ask it about the other half.

    Rows are dealt to the indices at random, so that nothing but the index's own trace tells it. The state of a sequence is
    the mean over its tokens, those of the ``attention_mask`` where the batch has one. A probe (least squares with a small
    ridge) that is no better than chance, in a model whose rows are compared with each other, is what training with
    ``shuffle=True`` and ``hide_index=True`` is for; see :class:`~muxwrap.demuxers.IndexNorm`.

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back.
        batches: tensors, tuples of arguments or dicts of keyword arguments, of rows that do not repeat; read once. Rows
            beyond whole mixtures are left out.
        seed: of the dealing.

    Raises:
        MuxwrapError: the model is not wrapped, n is 1, or there are fewer than 4 mixtures.
    """
    check_wrapped(model, "index_readable")
    n = model.n
    if n == 1:
        raise MuxwrapError("index_readable(model): n=1 has one index, so there is none to read")
    generator = torch.Generator().manual_seed(seed)
    states = []
    with quiet(model):
        for batch in batches:
            if isinstance(batch, (str, int, float)) or not rows_of(batch) // n:
                continue
            dealt = torch.randperm(rows_of(batch), generator=generator)[: rows_of(batch) // n * n]
            states.append(pooled(model, take(batch, dealt)).unflatten(0, (-1, n)).double().cpu())
    mixtures = torch.cat(states) if states else torch.empty(0, n, 1)
    if len(mixtures) < 4:
        raise MuxwrapError(
            f"index_readable(batches): {len(mixtures)} mixtures of n={n}; give 4 or more, some hundred for a firm answer"
        )
    mixtures = mixtures[torch.randperm(len(mixtures), generator=generator)]
    fit, asked = mixtures.chunk(2)
    return IndexTrace(_probe(fit, asked), _nearest(asked), 1 / n, asked.shape[0] * n)


def _probe(fit: Tensor, asked: Tensor) -> float:
    """Return the accuracy on ``asked [g, n, features]`` of least squares on ``fit``."""
    n = fit.shape[1]
    mean = fit.flatten(0, 1).mean(0)
    x, y = fit.flatten(0, 1) - mean, torch.eye(n, dtype=fit.dtype).repeat(len(fit), 1) - 1 / n
    found = ((asked - mean) @ least_squares(x, y)).argmax(-1)
    return float((found == torch.arange(n)).double().mean())


def _nearest(asked: Tensor) -> float:
    """Return how often the nearest state of another mixture stands at the same index: of ``[g, n, features]``."""
    g, n = asked.shape[:2]
    unit = F.normalize(asked.flatten(0, 1), dim=1)
    of_row = torch.arange(g * n)
    cosine = (unit @ unit.T).masked_fill((of_row // n)[:, None] == of_row // n, -torch.inf)
    return float((cosine.argmax(1) % n == of_row % n).double().mean())
