"""The retrieval objective: predict the token that instance i has at position j (DataMUX, section 3.3)."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._hooks.grouping import group, places_in
from muxwrap.errors import MuxwrapError, known_names
from muxwrap.multiplex import Multiplex
from muxwrap.training.batches import Batch
from muxwrap.training.head import RetrievalHead
from muxwrap.training.token_sites import TokenSites
from muxwrap.training.tokens import Tokens, read_tokens, separate

Indices = Literal["one", "all"]


class RetrievalOutput(NamedTuple):
    """The retrieval loss of a batch, first in a tuple as training loops expect it.

    Args:
        loss: mean cross-entropy over the tokens that were asked for, a scalar.
        correct: how many of them were predicted right.
        positions: how many there were.
    """

    loss: Tensor
    correct: Tensor
    positions: Tensor


def targets(batch: Batch, n: int, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the tokens to predict, and which of them count, both ``[mixtures, n, length]``.

    Padding does not count, nor do the rows that fill up the last mixture, since they are in the batch already.
    """
    real = batch.real if order is None else _first_only(batch.real, order)
    counts = F.pad(real, (0, 0, 0, -real.shape[0] % n)).unflatten(0, (-1, n))
    return group(batch.ids, n, order), counts


def _first_only(real: Tensor, order: Tensor) -> Tensor:
    first = torch.zeros(order.shape[0], dtype=torch.bool, device=order.device)
    first[places_in(order, real.shape[0])] = True
    return real[order] & first.unsqueeze(1)


def draw_one(counts: Tensor) -> Tensor:
    """Draw one instance per position, uniformly among those that have a token there.

    Args:
        counts: bool ``[mixtures, n, length]``.

    Returns:
        bool, of the same shape, True at most once along n.
    """
    drawn = torch.rand(counts.shape, device=counts.device).masked_fill(~counts, -1.0).argmax(1, keepdim=True)
    return torch.zeros_like(counts).scatter(1, drawn, True) & counts


class Retrieval(nn.Module):
    """A wrapped model and its head as one module whose forward is the loss.

    Args:
        model: the wrapped model.
        head: scores the vocabulary.
        sites: where tokens enter the model and where its trunk ends.
        indices: ``"one"`` draws one instance per position, so that a mixture costs one projection to the vocabulary per
            position whatever n is (published); ``"all"`` predicts every instance's token.

    Raises:
        MuxwrapError: unknown ``indices``, or the head is for another model.
    """

    def __init__(self, model: Multiplex, head: RetrievalHead, sites: TokenSites, indices: Indices = "one") -> None:
        super().__init__()
        if indices not in ("one", "all"):
            raise MuxwrapError(f"indices={indices!r}; {known_names(indices, ('one', 'all'))}")
        table = sites.table(model)
        if (head.dim, head.tokens, head.size) != (sites.output.dim, *table.shape):
            raise MuxwrapError(
                f"{head.__class__.__name__}(dim={head.dim}, tokens={head.tokens}, size={head.size}) does not fit a model with "
                f"{sites.output.dim} features and an embedding {list(table.shape)}; make it with retrieval_head(model)"
            )
        self.model = model
        self.head = head
        self.token_sites = sites
        self.indices = indices

    def forward(self, batch: Batch) -> RetrievalOutput:
        """Run the model up to the trunk's end, and score what is there."""
        return self.score(self._tokens(batch), batch)

    def score(self, tokens: Tokens, batch: Batch) -> RetrievalOutput:
        """Return the loss over the tokens that are asked for.

        Args:
            tokens: the trunk's output.
            batch: the call that made it.
        """
        wanted, counts = targets(batch, self.model.n, tokens.order)
        asked = draw_one(counts) if self.indices == "one" else counts
        wanted = wanted[asked]
        scores = self._scores(separate(self.model, self.head.demuxer, tokens.mixed, batch)[asked])
        loss = F.cross_entropy(scores.float(), wanted, reduction="sum") / max(len(wanted), 1)
        return RetrievalOutput(loss, (scores.detach().argmax(-1) == wanted).sum(), asked.sum())

    def correct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return how many tokens are predicted right, and how many there are, both per index: ``[n]``."""
        tokens = self._tokens(batch)
        wanted, counts = targets(batch, self.model.n, tokens.order)
        separated = separate(self.model, self.head.demuxer, tokens.mixed, batch)
        right = []
        for i in range(self.model.n):  # one index at a time: the scores of all would be n times as much memory
            here = counts[:, i]
            right.append((self._scores(separated[:, i][here]).argmax(-1) == wanted[:, i][here]).sum())
        return torch.stack(right), counts.sum((0, 2))

    def _tokens(self, batch: Batch) -> Tokens:
        # forward, and not the model itself: a call that is compiled cannot be ended early.
        call = partial(self.model.forward, **batch.inputs)
        return read_tokens(self.model, self.token_sites.output, call, stop=True)[1]

    def _scores(self, separated: Tensor) -> Tensor:
        scores: Tensor = self.head(separated, self.token_sites.table(self.model))
        return scores
