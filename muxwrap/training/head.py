"""The head that names tokens. It is no part of the multiplexed model and never runs at inference."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.seeding import seeded
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError, check_dim, known_names
from muxwrap.multiplex import Multiplex
from muxwrap.training.tokens import TokenPlaces, find_places

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
        """Say the facts that ``print`` shows."""
        return f"dim={self.dim}, tokens={self.tokens}, vocabulary={self.vocabulary!r}"


def retrieval_head(
    model: Multiplex,
    *,
    vocabulary: Vocabulary = "tied",
    demuxer: Separation = "separate",
    example: Any = None,
    seed: int = 0,
) -> RetrievalHead:
    """Make the head that names the tokens of a wrapped model, where the model is and in its dtype.

    Args:
        model: the wrapped model.
        vocabulary: see :class:`RetrievalHead`.
        demuxer: ``"separate"`` (published) gives retrieval a copy of the task's demuxer that belongs to the head, and the
            warm-up leaves the task's as it is; ``"shared"`` trains the task's own.
        example: a batch; not needed for Transformers models.
        seed: fixes the initial values.

    Raises:
        MuxwrapError: the model is not wrapped, or no text model; or all its tokens are to be had only where the task's
            demuxer does not fit.
    """
    check_wrapped(model, "retrieval_head")
    return head_at(model, find_places(model, example), vocabulary=vocabulary, demuxer=demuxer, seed=seed)


def head_at(
    model: Multiplex,
    places: TokenPlaces,
    *,
    vocabulary: Vocabulary = "tied",
    demuxer: Separation = "separate",
    seed: int = 0,
) -> RetrievalHead:
    """Make the head for a model whose tokens are found."""
    if demuxer not in ("shared", "separate"):
        raise MuxwrapError(f"demuxer={demuxer!r}; {known_names(demuxer, ('shared', 'separate'))}")
    dim = places.site.dim
    if dim != model.demuxer.dim:
        raise MuxwrapError(
            f"all tokens are at the {places.site}, and the demuxer works on {model.demuxer.dim} features; wrap with demux_at= "
            "where the trunk's tokens are"
        )
    own = (
        copy.deepcopy(model.demuxer)
        if demuxer == "separate" and next(model.demuxer.parameters(), None) is not None
        else None
    )
    table = places.table(model)
    head = RetrievalHead(dim, *table.shape, vocabulary=vocabulary, demuxer=own, seed=seed)
    return head.to(device=table.device, dtype=table.dtype)


def check_wrapped(model: object, call: str) -> None:
    """Refuse what is no wrapped model.

    Raises:
        MuxwrapError: the model is another one; the message repeats the call.
    """
    if not isinstance(model, Multiplex) or not model.attached:
        raise MuxwrapError(f"{call}({type(model).__name__}): not a wrapped model; give what muxwrap.wrap returned")
