"""How well a multiplexed model keeps its instances apart: retrieval accuracy on sequences it was not trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.sites.probe import quiet
from muxwrap.training.batches import as_batch
from muxwrap.training.distributed import summed
from muxwrap.training.head import RetrievalHead, check_wrapped
from muxwrap.training.objective import Retrieval
from muxwrap.training.tokens import find_places


@dataclass(frozen=True)
class Retrieved:
    """Retrieval accuracy.

    Args:
        accuracy: share of tokens that are named right, 0 to 1.
        per_index: the same for every index; NaN for one that had no row.
        positions: how many tokens were asked for.
    """

    accuracy: float
    per_index: tuple[float, ...]
    positions: int


def retrieval_accuracy(model: Multiplex, head: RetrievalHead, batches: Iterable[Any]) -> Retrieved:
    """Ask for every token of every instance, in evaluation mode.

    Without a strategy that tells instances apart (``identity``) this is about 1/n.

    Args:
        model: the wrapped model.
        head: trained with it.
        batches: as in :func:`warm_up`; read once. Rows that share a mixture are those that share a batch.

    Raises:
        MuxwrapError: the model is not wrapped, the head does not fit it, or there is no token to ask for.
    """
    check_wrapped(model, "retrieval_accuracy")
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise MuxwrapError("retrieval_accuracy(): batches holds no batch; give a data loader with rows")
    return evaluate(Retrieval(model, head, find_places(model, first)), itertools.chain([first], iterator))


def evaluate(retrieval: Retrieval, batches: Iterable[Any]) -> Retrieved:
    """Measure over one pass of the batches (of all processes, where there are several)."""
    model = retrieval.model
    table = retrieval.places.table(model)
    right = torch.zeros(2, model.n, dtype=torch.long, device=table.device)
    with quiet(retrieval):
        for value in batches:
            right += torch.stack(retrieval.correct(as_batch(model.backbone, value, len(table), table.device)))
    correct, counted = summed(right).double().cpu()
    if not counted.sum():
        raise MuxwrapError("held-out batches hold no token to ask for: there is no batch, or all is padding")
    return Retrieved(float(correct.sum() / counted.sum()), tuple((correct / counted).tolist()), int(counted.sum()))
