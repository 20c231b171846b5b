"""The models: one BERT, bare and multiplexed, and narrower ones with about 1/n of its compute."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import muxwrap
from benchmarks.studies.common.models import APART, device_of
from benchmarks.studies.common.models import operations as operations_of
from benchmarks.studies.text.data import Task
from benchmarks.studies.text.tokenizer import LENGTH
from muxwrap.training import start_apart

BARE = ("B1", "B2")  # trained from scratch; the same after a warm-up with n = 1
NARROW = {"rival": 0.5, "block": 1.0}  # plain models of 1/n to this power of the width


class Sizes(NamedTuple):
    layers: int
    dim: int
    heads: int
    vocabulary: int  # word pieces

    def __str__(self) -> str:
        return f"BERT {self.layers}x{self.dim}, {self.vocabulary:,} pieces"


def make(task: Task, configuration: str, n: int, sizes: Sizes, seed: int) -> nn.Module:
    """Return an untrained model; any strategy's name is a configuration."""
    torch.manual_seed(seed)
    if configuration in NARROW:
        return bert(task, narrower(sizes, n ** NARROW[configuration]))
    model = bert(task, sizes)
    return model if configuration in BARE else multiplexed(model, configuration, n, seed)


def multiplexed(model: nn.Module, configuration: str, n: int, seed: int) -> muxwrap.Multiplex:
    """Wrap an untrained model with a strategy of this name and its default demuxer, or with slots that start apart."""
    if configuration != APART:
        return muxwrap.wrap(model, n=n, strategy=configuration, seed=seed)
    wrapped = muxwrap.wrap(model, n=n, strategy="slots", demux="unbind", seed=seed)
    start_apart(wrapped)
    return wrapped


def bert(task: Task, sizes: Sizes) -> nn.Module:
    """Return an untrained BERT for a task."""
    kind = BertForTokenClassification if task.tagging else BertForSequenceClassification
    return kind(config(sizes, num_labels=len(task.classes)))


def config(sizes: Sizes, **fields: Any) -> BertConfig:
    """Return BERT's configuration of these sizes, without dropout; ``fields`` replace single ones."""
    chosen = {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.dim,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": 4 * sizes.dim,
        "max_position_embeddings": LENGTH,
        # In short trials dropout kept mixtures at chance for longer; these two were found together, see docs/text.md.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02 * math.sqrt(768 / sizes.dim),  # BERT's, at this width
    }
    return BertConfig(**{**chosen, **fields})


def narrower(sizes: Sizes, times: float) -> Sizes:
    """Return as many layers, so many times narrower, with heads of four features or more."""
    dim = max(4, 4 * round(sizes.dim / times / 4))
    heads = max(heads for heads in range(1, sizes.heads + 1) if dim % heads == 0 and dim // heads >= 4)
    return sizes._replace(dim=dim, heads=heads)


def operations(model: nn.Module, length: int) -> float:
    """Return the floating-point operations per instance of so many word pieces."""

    def inputs(rows: int) -> dict[str, Tensor]:
        ids = torch.ones(rows, length, dtype=torch.long, device=device_of(model))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return operations_of(model, inputs)
