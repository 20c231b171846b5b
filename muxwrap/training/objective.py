"""The retrieval objective: name the token that instance i has at position j (DataMUX, section 3.3)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._hooks.grouping import group
from muxwrap.errors import MuxwrapError, known_names
from muxwrap.multiplex import Multiplex
from muxwrap.training.batches import Batch
from muxwrap.training.head import RetrievalHead
from muxwrap.training.tokens import TokenPlaces, read_tokens, separate

Indices = Literal["one", "all"]


def targets(batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """Return what has to be named, and what of it counts, both ``[mixtures, n, length]``.

    Padding does not count, nor do the rows that fill up the last mixture, since they are in the batch already.
    """
    real = F.pad(batch.real, (0, 0, 0, -batch.real.shape[0] % n)).unflatten(0, (-1, n))
    return group(batch.ids, n), real


def draw_one(counts: Tensor) -> Tensor:
    """Draw one instance for every position, uniformly among those that have a token there.

    Args:
        counts: bool ``[mixtures, n, length]``.

    Returns:
        bool, of the same shape, True at most once along n.
    """
    drawn = torch.rand(counts.shape, device=counts.device).masked_fill(~counts, -1.0).argmax(1, keepdim=True)
    return torch.zeros_like(counts).scatter(1, drawn, True) & counts


class Retrieval(nn.Module):
    """A wrapped model and its head as one module whose forward is the loss: what is optimised, and what DDP wraps.

    Args:
        model: the wrapped model.
        head: names the tokens.
        places: where they are.
        indices: ``"one"``: at every position one instance is drawn, so that a mixture costs one projection to the
            vocabulary a position whatever n is (published); ``"all"``: every instance is asked.

    Raises:
        MuxwrapError: unknown ``indices``, or the head is for another model.
    """

    def __init__(self, model: Multiplex, head: RetrievalHead, places: TokenPlaces, indices: Indices = "one") -> None:
        super().__init__()
        if indices not in ("one", "all"):
            raise MuxwrapError(f"indices={indices!r}; {known_names(indices, ('one', 'all'))}")
        table = places.table(model)
        if (head.dim, head.tokens, head.size) != (places.site.dim, *table.shape):
            raise MuxwrapError(
                f"{head.__class__.__name__}(dim={head.dim}, tokens={head.tokens}, size={head.size}) does not fit a model with "
                f"{places.site.dim} features and an embedding {list(table.shape)}; make it with retrieval_head(model)"
            )
        self.model = model
        self.head = head
        self.places = places
        self.indices = indices

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Run the model up to the trunk's end; return what :meth:`score` does."""
        return self.score(self._tokens(batch), batch)

    def score(self, tokens: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean cross-entropy over the positions asked for, how many were named right, and how many there were.

        Args:
            tokens: the trunk's output ``[mixtures, prefix + length, dim]``.
            batch: the call that made it.
        """
        wanted, counts = targets(batch, self.model.n)
        asked = draw_one(counts) if self.indices == "one" else counts
        wanted = wanted[asked]
        scores = self._scores(separate(self.model, self.head.demuxer, tokens, batch)[asked])
        loss = F.cross_entropy(scores.float(), wanted, reduction="sum") / max(len(wanted), 1)
        return loss, (scores.detach().argmax(-1) == wanted).sum(), asked.sum()

    def correct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return for every index how many tokens are named right, and how many there are, both ``[n]``."""
        tokens = self._tokens(batch)
        wanted, counts = targets(batch, self.model.n)
        separated = separate(self.model, self.head.demuxer, tokens, batch)
        right = []
        for i in range(self.model.n):  # one index at a time: the scores of all would be n times as much memory
            here = counts[:, i]
            right.append((self._scores(separated[:, i][here]).argmax(-1) == wanted[:, i][here]).sum())
        return torch.stack(right), counts.sum((0, 2))

    def _tokens(self, batch: Batch) -> Tensor:
        # forward, and not the model itself: a call that is compiled cannot be ended early.
        call = partial(self.model.forward, **batch.inputs)
        return read_tokens(self.model, self.places.site, call, stop=True)[1]

    def _scores(self, separated: Tensor) -> Tensor:
        scores: Tensor = self.head(separated, self.places.table(self.model))
        return scores
