"""The head that scores the vocabulary. It is not a part of the multiplexed model and never runs at inference."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.seeding import seeded
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError, check_dim, known_names
from muxwrap.multiplex import Multiplex, check_wrapped
from muxwrap.training.token_sites import TokenSites, find_token_sites

Vocabulary = Literal["tied", "free"]
Separation = Literal["shared", "separate"]


class RetrievalHead(nn.Module):
    """Scores every token of the vocabulary for a separated position: ``[..., dim] -> [..., tokens]``.

    ``"tied"``: LayerNorm(GELU(Linear(h))) against the model's input embedding, plus a bias, as masked language models do;
    dim² + tokens numbers of its own. ``"free"``: Linear(dim, tokens), the published one (DataMUX, retrieval warm-up);
    dim·tokens numbers. :func:`retrieval_head` makes the one that fits a model.

    Args:
        dim: features of a separated position.
        tokens: size of the vocabulary.
        size: features of the input embedding.
        vocabulary: ``"tied"`` or ``"free"``.
        demuxer: retrieval's own; None if the task's is used.
        seed: fixes the initial values.

    Raises:
        MuxwrapError: a bad size, or an unknown ``vocabulary``.
    """

    def __init__(
        self,
        dim: int,
        tokens: int,
        size: int,
        *,
        vocabulary: Vocabulary = "tied",
        demuxer: Demuxer | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if vocabulary not in ("tied", "free"):
            raise MuxwrapError(f"vocabulary={vocabulary!r}; {known_names(vocabulary, ('tied', 'free'))}")
        self.dim, self.tokens, self.size = check_dim(dim), check_dim(tokens), check_dim(size)
        self.vocabulary = vocabulary
        self.demuxer = demuxer
        with seeded(seed):
            if vocabulary == "free":
                self.project = nn.Linear(dim, tokens)
            else:
                self.transform = nn.Linear(dim, size)
                self.norm = nn.LayerNorm(size)
                self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, separated: Tensor, table: Tensor) -> Tensor:
        """Return the scores of all tokens.

        Args:
            separated: ``[..., dim]``.
            table: the model's input embedding, ``[tokens, size]``; read by ``"tied"`` only.

        Returns:
            ``[..., tokens]``.
        """
        if self.vocabulary == "free":
            scores: Tensor = self.project(separated)
            return scores
        return F.linear(self.norm(F.gelu(self.transform(separated))), table, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes that ``print`` shows."""
        return f"dim={self.dim}, tokens={self.tokens}, vocabulary={self.vocabulary!r}"


def retrieval_head(
    model: Multiplex,
    *,
    vocabulary: Vocabulary = "tied",
    demuxer: Separation = "separate",
    example: Any = None,
    seed: int = 0,
) -> RetrievalHead:
    """Make the head that scores the vocabulary of a wrapped model, on the model's device and in its dtype.

    Args:
        model: the wrapped model.
        vocabulary: see :class:`RetrievalHead`.
        demuxer: ``"separate"`` (published) gives retrieval a copy of the task's demuxer that belongs to the head, and the
            warm-up leaves the task's as it is; ``"shared"`` trains the task's own.
        example: a batch; not needed for Transformers models.
        seed: fixes the initial values.

    Raises:
        MuxwrapError: the model is not wrapped, or not a text model; or the task's demuxer does not fit where the model has
            all its tokens.
    """
    check_wrapped(model, "retrieval_head")
    return head_at(model, find_token_sites(model, example), vocabulary=vocabulary, demuxer=demuxer, seed=seed)


def head_at(
    model: Multiplex,
    sites: TokenSites,
    *,
    vocabulary: Vocabulary = "tied",
    demuxer: Separation = "separate",
    seed: int = 0,
) -> RetrievalHead:
    """Make the head for a model whose token sites are known."""
    if demuxer not in ("shared", "separate"):
        raise MuxwrapError(f"demuxer={demuxer!r}; {known_names(demuxer, ('shared', 'separate'))}")
    dim = sites.output.dim
    if dim != model.demuxer.dim:
        raise MuxwrapError(
            f"all tokens are at the {sites.output}, and the demuxer works on {model.demuxer.dim} features; wrap with demux_at= "
            "where the trunk's tokens are"
        )
    own = (
        copy.deepcopy(model.demuxer)
        if demuxer == "separate" and next(model.demuxer.parameters(), None) is not None
        else None
    )
    table = sites.table(model)
    head = RetrievalHead(dim, *table.shape, vocabulary=vocabulary, demuxer=own, seed=seed)
    return head.to(device=table.device, dtype=table.dtype)
