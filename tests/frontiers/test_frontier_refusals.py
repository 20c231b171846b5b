"""What a chart refuses before anything is trained."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from nets import make
from texts import sentences, tiny
from torch.utils.data import DataLoader

import muxwrap

X = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
PAIRS = [(X, torch.zeros(4, dtype=torch.long))]


def refused(match: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=match):
        muxwrap.frontier(*args, **{"steps": 1, "progress": False, **kwargs})


def test_models_and_batches() -> None:
    net = make("mlp")
    refused(r"frontier\(MLP\).*not wrapped", muxwrap.wrap(make("mlp"), 2, example_input=X), PAIRS, PAIRS)
    bare = make("mlp")
    wrapped = muxwrap.wrap(bare, 2, example_input=X)
    refused(r"frontier\(MLP\).*not wrapped", bare, PAIRS, PAIRS)
    muxwrap.unwrap(wrapped)
    refused(r"frontier\(str\).*not wrapped", "bert", PAIRS, PAIRS)
    refused(r"frontier\(train=list_iterator\).*give a list or a data loader", net, iter(PAIRS), PAIRS)
    refused(r"frontier\(train=int\).*give a list or a data loader", net, 3, PAIRS)
    refused(r"frontier\(held_out=...\): there is no batch", net, PAIRS, [])
    refused(r"frontier\(test=...\): there is a batch without labels", net, PAIRS, PAIRS, test=[X])
    refused(r"frontier\(teacher=...\): the chart sets it", net, PAIRS, PAIRS, teacher=make("mlp"))


def test_names_and_numbers() -> None:
    net = make("mlp")
    refused(r"unknown strategy 'slot'; did you mean 'slots'", net, PAIRS, PAIRS, strategies=["slot"])
    refused(r"unknown rival 'int4'", net, PAIRS, PAIRS, rivals=["int4"])
    refused(r"n=0 is below 1", net, PAIRS, PAIRS, n=0)
    refused(r"frontier\(layers=\(2,\), at=None\): no list of layers found in MLP", net, PAIRS, PAIRS, layers=2)
    refused(r"dtype='int8' is not a floating-point dtype", net, PAIRS, PAIRS, dtype="int8")
    batch = {**sentences((5, 4)), "labels": torch.tensor([0, 1])}
    model = tiny("sequence", "bert", num_hidden_layers=2)
    for name, value in (("layers", 3), ("at", 0)):
        refused(
            rf"frontier\({name}={value}\): BertFor\w+ has 2 layers; .* 1 to 2", model, [batch], [batch], **{name: value}
        )


def test_what_cannot_be_trained_is_refused_where_nothing_can() -> None:
    labels = torch.full((4,), 0.5)
    message = re.escape("distill(batches=...): labels float32 [4] beside answers [4, 5] are not a class per answer")
    refused(
        message, make("mlp"), DataLoader([(x, y) for x, y in zip(X, labels, strict=True)], 4), PAIRS, n=2, rivals=()
    )
