"""The Transformers model of a published checkpoint, whose head is the published one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.published.config import MuxConfig


class FirstToken(nn.Module):
    """Take token 0: ``[B, L, d] -> [B, d]``; the published sequence models have no pooler."""

    def forward(self, h: Tensor) -> Tensor:
        """Return ``h[:, 0]``."""
        return h[:, 0]


def make_backbone(config: MuxConfig) -> Any:
    """Return the Transformers model whose head computes what the published one does, not yet with its weights.

    Raises:
        MuxwrapError: Transformers is not installed, or refuses the config.
    """
    try:
        import transformers
    except ImportError as error:
        raise MuxwrapError("published models are Transformers models; pip install 'muxwrap[hf]'") from error
    family = {"roberta": "Roberta", "bert": "Bert"}[config.family]
    task = {"sequence": "ForSequenceClassification", "token": "ForTokenClassification"}[config.task]
    try:
        sizes = getattr(transformers, f"{family}Config").from_dict(config.values)
        with torch.random.fork_rng(devices=[]):  # the weights come from the checkpoint; nobody's random state moves
            backbone = getattr(transformers, family + task)(sizes)
    except (TypeError, ValueError, KeyError) as error:
        raise MuxwrapError(f"Transformers cannot make a {family}{task} of the config: {error}") from error
    if config.family == "bert" and config.task == "sequence":
        backbone.bert.pooler = FirstToken()
    elif config.family == "roberta":
        backbone.classifier = _roberta_head(config, sizes)
    return backbone.eval()


def _roberta_head(config: MuxConfig, sizes: Any) -> nn.Module:
    """Return the published head: GELU where Transformers has tanh, and no dropout."""
    if config.demuxing == "index" and config.task == "token":
        return nn.Linear(sizes.hidden_size, sizes.num_labels)
    layers: dict[str, nn.Module] = {"first": FirstToken()} if config.task == "sequence" else {}
    layers |= {"dense": nn.Linear(sizes.hidden_size, sizes.hidden_size), "gelu": nn.GELU()}
    if config.demuxing == "mlp":
        layers["norm"] = nn.LayerNorm(sizes.hidden_size, eps=sizes.layer_norm_eps)
    layers["out_proj"] = nn.Linear(sizes.hidden_size, sizes.num_labels)
    return nn.Sequential(OrderedDict(layers))
