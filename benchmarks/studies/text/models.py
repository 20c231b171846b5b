"""What is compared: one BERT of our own size, bare, multiplexed, and a smaller one with about 1/n of its compute."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import muxwrap
from benchmarks.studies.text.data import Task
from benchmarks.studies.text.pieces import LENGTH
from muxwrap.training import start_apart

BARE = ("B1", "B2")  # trained from scratch; the same after a warm-up with n = 1
NARROW = {"rival": 0.5, "block": 1.0}  # plain models of 1/n to this power of the width
APART = "apart"  # slots from a trunk that keeps them apart at the start, separated by the strategy's own way back


class Sizes(NamedTuple):
    layers: int
    dim: int
    heads: int
    vocabulary: int

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
    """Wrap an untrained model with a strategy of this name and the demuxer of the library's choice, or apart."""
    if configuration != APART:
        return muxwrap.wrap(model, n=n, strategy=configuration, seed=seed)
    wrapped = muxwrap.wrap(model, n=n, strategy="slots", demux="unbind", seed=seed)
    start_apart(wrapped)
    return wrapped


def bert(task: Task, sizes: Sizes) -> nn.Module:
    kind = BertForTokenClassification if task.tagging else BertForSequenceClassification
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.dim,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.dim,
        max_position_embeddings=LENGTH,
        num_labels=len(task.classes),
        # In short trials dropout kept mixtures at chance for longer; these two were found together, see docs/text.md.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.02 * math.sqrt(768 / sizes.dim),  # BERT's, at this width
    )
    return kind(config)


def narrower(sizes: Sizes, times: float) -> Sizes:
    """Return as many layers, so many times narrower, with heads of four features or more."""
    dim = max(4, 4 * round(sizes.dim / times / 4))
    heads = max(heads for heads in range(1, sizes.heads + 1) if dim % heads == 0 and dim // heads >= 4)
    return sizes._replace(dim=dim, heads=heads)


def operations(model: nn.Module, length: int) -> float:
    """Return the floating-point operations of an instance of so many pieces, in evaluation."""
    rows = 8 * getattr(model, "n", 1)
    device = next(model.parameters()).device
    ids = torch.ones(rows, length, dtype=torch.long, device=device)
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops() / rows
