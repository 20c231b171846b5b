"""The strategy, the demuxer and the sites of a published model, with its oddities as settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muxwrap.demuxers import MLP, Demuxer, Index, Key
from muxwrap.errors import MuxwrapError
from muxwrap.published.config import MuxConfig
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.strategies import Binary, Contextual, Hadamard, LowRank, Orthogonal, Strategy

SENTINEL_ID = {"roberta": 49923, "bert": 101}
"""The id of the token that a sequence model reads, whatever the tokenizer's ids are."""


def make_strategy(config: MuxConfig, sizes: Any, keys: Tensor) -> Strategy:
    """Return the strategy, its values those of a new model.

    Args:
        config: of the checkpoint.
        sizes: the backbone's config, of Transformers.
        keys: the published ones; how far chunks overlap is to be seen in them only.
    """
    n, dim, learn = config.n, sizes.hidden_size, config.learn
    if config.muxing == "gaussian_hadamard":
        return Hadamard(n, dim, scale="mean", learnable=learn)
    if config.muxing == "binary_hadamard":
        return Binary(n, dim, scale="mean", learnable=learn, overlap=(0, 0) if learn else _overlap(keys))
    if config.muxing == "random_ortho_low_rank" and not learn:
        return LowRank(n, dim, scale="sqrt")
    if config.muxing.startswith("random_ortho"):
        return Orthogonal(n, dim, scale="sqrt", learnable=learn)  # trained matrices keep no rank
    return Contextual(
        n,
        dim,
        heads=sizes.num_attention_heads,
        hidden=sizes.intermediate_size,
        dropout=sizes.hidden_dropout_prob,
        eps=sizes.layer_norm_eps,
        learn_keys=learn,
        padding="mixed" if config.task == "sequence" else "attended",
        scale="mean",
    )


def _overlap(keys: Tensor) -> tuple[int, int]:
    """Return how far the chunks marked in ``[n, dim]`` reach into their neighbours, before and after.

    Raises:
        MuxwrapError: the keys do not mark chunks.
    """
    n, dim = keys.shape
    chunk = dim // n
    before, after = (0, 0)
    if n > 1:
        before = min(max(chunk - int(keys[1].argmax()), 0), chunk)
        after = min(max(int(keys[0].sum()) - chunk, 0), chunk)
    if not torch.equal(Binary(n, dim, overlap=(before, after)).keys, keys.float()):
        raise MuxwrapError(
            "instance_embedding does not mark the chunks that 'binary_hadamard' has; was learn_muxing=1?"
        )
    return before, after


def make_demuxer(config: MuxConfig, sizes: Any, keep_prefix: bool) -> Demuxer:
    """Return the demuxer, not yet with its weights."""
    n, dim, eps, first = config.n, sizes.hidden_size, sizes.layer_norm_eps, SENTINEL_ID[config.family]
    if config.demuxing == "mlp":
        return MLP(n, dim, dropout=sizes.hidden_dropout_prob, eps=eps, sentinel_id=first)
    if config.demuxing == "index_pos":
        return Key(n, dim, layers=config.layers - 1, inner_norm=True, eps=eps, sentinel_id=first)
    ids = (sizes.vocab_size - 2, 50000, first) if config.family == "roberta" else (678, 680, first)
    if max(ids) >= sizes.vocab_size:
        raise MuxwrapError(
            f"the published prefix has the ids {ids}, and vocab_size={sizes.vocab_size}; give the config of the published "
            "vocabulary"
        )
    prefix_outputs = 1 if config.task == "sequence" else n + 1 if keep_prefix else 0
    return Index(n, dim, sentinel_ids=ids, prefix_outputs=prefix_outputs, project=False, eps=eps)


def make_sites(config: MuxConfig, sizes: Any) -> Sites:
    """Return where the published code mixes and separates: after the embeddings, which run twice, and before the head."""
    dim = sizes.hidden_size
    head = {"token": "dropout", "sequence": "bert.pooler" if config.family == "bert" else "classifier"}[config.task]
    return Sites(
        mux=(Site(f"{config.family}.embeddings", "output", -1, dim, twice=True),),
        demux=(Site(head, "input", -1, dim, first_token=config.task == "sequence"),),
        mask=MaskMode.IGNORED,
    )
