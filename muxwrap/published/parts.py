"""The backbone, the strategy, the demuxer and the sites of a published model, with its oddities as settings."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.demuxers import MLP, Demuxer, Index, Key
from muxwrap.errors import MuxwrapError
from muxwrap.published.facts import Facts
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.strategies import Binary, Contextual, Hadamard, LowRank, Orthogonal, Strategy

FIRST_ID = {"roberta": 49923, "bert": 101}
"""The id of the token that a sequence model reads, whatever the tokenizer says."""


class FirstToken(nn.Module):
    """Take token 0: ``[B, L, d] -> [B, d]``; the published sequence models have no pooler."""

    def forward(self, h: Tensor) -> Tensor:
        """Return ``h[:, 0]``."""
        return h[:, 0]


def make_backbone(facts: Facts) -> Any:
    """Return the Transformers model whose head computes what the published one does, not yet with its weights.

    Raises:
        MuxwrapError: Transformers is not installed, or refuses the config.
    """
    try:
        import transformers
    except ImportError as error:
        raise MuxwrapError("published models are Transformers models; pip install 'muxwrap[hf]'") from error
    family = {"roberta": "Roberta", "bert": "Bert"}[facts.family]
    task = {"sequence": "ForSequenceClassification", "token": "ForTokenClassification"}[facts.task]
    try:
        config = getattr(transformers, f"{family}Config").from_dict(facts.config)
        with torch.random.fork_rng(devices=[]):  # the weights come from the checkpoint; nobody's random state moves
            backbone = getattr(transformers, family + task)(config)
    except (TypeError, ValueError, KeyError) as error:
        raise MuxwrapError(f"Transformers makes no {family}{task} of the config: {error}") from error
    if facts.family == "bert" and facts.task == "sequence":
        backbone.bert.pooler = FirstToken()
    elif facts.family == "roberta":
        backbone.classifier = _roberta_head(facts, config)
    return backbone.eval()


def _roberta_head(facts: Facts, config: Any) -> nn.Module:
    """Return the published head: GELU where Transformers has tanh, and no dropout."""
    if facts.demuxing == "index" and facts.task == "token":
        return nn.Linear(config.hidden_size, config.num_labels)
    parts: dict[str, nn.Module] = {"first": FirstToken()} if facts.task == "sequence" else {}
    parts |= {"dense": nn.Linear(config.hidden_size, config.hidden_size), "gelu": nn.GELU()}
    if facts.demuxing == "mlp":
        parts["norm"] = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    parts["out_proj"] = nn.Linear(config.hidden_size, config.num_labels)
    return nn.Sequential(OrderedDict(parts))


def make_strategy(facts: Facts, config: Any, keys: Tensor) -> Strategy:
    """Return the strategy, its values those of a new model.

    Args:
        facts: of the published model.
        config: of the backbone.
        keys: the published ones; where chunks overlap, they alone tell by how much.
    """
    n, dim, learn = facts.n, config.hidden_size, facts.learn
    if facts.muxing == "gaussian_hadamard":
        return Hadamard(n, dim, scale="mean", learnable=learn)
    if facts.muxing == "binary_hadamard":
        return Binary(n, dim, scale="mean", learnable=learn, overlap=(0, 0) if learn else _overlap(keys))
    if facts.muxing == "random_ortho_low_rank" and not learn:
        return LowRank(n, dim, scale="sqrt")
    if facts.muxing.startswith("random_ortho"):
        return Orthogonal(n, dim, scale="sqrt", learnable=learn)  # trained matrices keep no rank
    return Contextual(
        n,
        dim,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        eps=config.layer_norm_eps,
        learn_keys=learn,
        padding="mixed" if facts.task == "sequence" else "attended",
        scale="mean",
    )


def _overlap(keys: Tensor) -> tuple[int, int]:
    """Return how far the chunks marked in ``[n, dim]`` reach into their neighbours, before and after.

    Raises:
        MuxwrapError: what is marked are no chunks.
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


def make_demuxer(facts: Facts, config: Any, keep_prefix: bool) -> Demuxer:
    """Return the demuxer, not yet with its weights."""
    n, dim, eps, first = facts.n, config.hidden_size, config.layer_norm_eps, FIRST_ID[facts.family]
    if facts.demuxing == "mlp":
        return MLP(n, dim, dropout=config.hidden_dropout_prob, eps=eps, sentinel_id=first)
    if facts.demuxing == "index_pos":
        return Key(n, dim, layers=facts.layers - 1, inner_norm=True, eps=eps, sentinel_id=first)
    ids = (config.vocab_size - 2, 50000, first) if facts.family == "roberta" else (678, 680, first)
    if max(ids) >= config.vocab_size:
        raise MuxwrapError(f"the published prefix has the ids {ids}, and vocab_size={config.vocab_size}")
    prefix_outputs = 1 if facts.task == "sequence" else n + 1 if keep_prefix else 0
    return Index(n, dim, sentinel_ids=ids, prefix_outputs=prefix_outputs, project=False, eps=eps)


def make_sites(facts: Facts, config: Any) -> Sites:
    """Return where the published code mixes and separates: behind the embeddings, which run twice, and before the head."""
    dim = config.hidden_size
    head = {"token": "dropout", "sequence": "bert.pooler" if facts.family == "bert" else "classifier"}[facts.task]
    return Sites(
        mux=(Site(f"{facts.family}.embeddings", "output", -1, dim, twice=True),),
        demux=(Site(head, "input", -1, dim, first_token=facts.task == "sequence"),),
        mask=MaskMode.IGNORED,
    )
