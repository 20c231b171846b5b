"""How well a multiplexed model keeps its instances apart: retrieval accuracy on sequences it was not trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped
from muxwrap.training.batches import as_batch
from muxwrap.training.head import RetrievalHead
from muxwrap.training.objective import Retrieval
from muxwrap.training.token_sites import find_token_sites


@dataclass(frozen=True)
class RetrievalAccuracy:
    """Retrieval accuracy.

    Args:
        accuracy: share of tokens that are predicted right, 0 to 1.
        per_index: the same per index; NaN for one that had no row.
        positions: number of tokens that were scored.
    """

    accuracy: float
    per_index: tuple[float, ...]
    positions: int

    @classmethod
    def of(cls, counts: Tensor) -> RetrievalAccuracy:
        """Make it of the number of tokens that were predicted right and of all, per index: ``[2, n]``.

        Raises:
            MuxwrapError: there was no token.
        """
        correct, counted = counts.cpu().double()
        if not counted.sum():
            raise MuxwrapError("no token to predict: there is no batch, or all is padding")
        return cls(float(correct.sum() / counted.sum()), tuple((correct / counted).tolist()), int(counted.sum()))


def retrieval_accuracy(model: Multiplex, head: RetrievalHead, batches: Iterable[Any]) -> RetrievalAccuracy:
    """Predict every token of every instance, in evaluation mode.

    Without a strategy that separates the instances (``identity``) this is about 1/n.

    Args:
        model: the wrapped model.
        head: trained with it.
        batches: as in :func:`warm_up`; read once. Every n rows of a batch share a mixture.

    Raises:
        MuxwrapError: the model is not wrapped, the head does not fit it, or there is no token to predict.
    """
    check_wrapped(model, "retrieval_accuracy")
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise MuxwrapError("retrieval_accuracy(): batches is empty; give a data loader with rows")
    retrieval = Retrieval(model, head, find_token_sites(model, first))
    return RetrievalAccuracy.of(count(retrieval, itertools.chain([first], iterator)))


def count(retrieval: Retrieval, batches: Iterable[Any]) -> Tensor:
    """Return how many tokens are predicted right and how many there are, per index: ``[2, n]``."""
    model = retrieval.model
    table = retrieval.token_sites.table(model)
    counts = torch.zeros(2, model.n, dtype=torch.long, device=table.device)
    with quiet(retrieval):
        for value in batches:
            counts += torch.stack(retrieval.correct(as_batch(model.backbone, value, len(table), table.device)))
    return counts
