"""What training refuses of models and data that hardly anybody has: each error names the way out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from nets import Residual, batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, training


def test_slots_are_measured_where_a_call_passes() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5)

        def forward(self, x: Tensor, raw: bool = False) -> Tensor:
            return self.head(self.layer(x if raw else self.stem(x)))

    model = muxwrap.wrap(Branching(), 2, "slots", mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12))
    with pytest.raises(
        MuxwrapError, match=r"output of stem .* was never reached, so there is nothing to measure; give"
    ):
        training.principal_slots(model, [((torch.randn(3, 12), True), None)])


def test_weights_that_are_not_plain_are_not_begun_or_damped() -> None:
    class Sharded(Tensor):
        """A kind of its own, as the weights of sharded models are."""

    x = torch.zeros(1, 1, 8, 8)
    model = muxwrap.wrap(Residual(11), 3, "slots", "unbind", example_input=x)
    block: Any = model.backbone.block
    block.weight = nn.Parameter(block.weight.detach().as_subclass(Sharded))
    with pytest.raises(MuxwrapError, match=r"block\.weight is sharded or quantized; start before fully_shard"):
        training.start_apart(model, x)
    with pytest.raises(
        MuxwrapError, match=r"weights are Shardeds, which are sharded or quantized; it takes plain weights"
    ):
        training.damp_crosstalk(torch.optim.SGD(model.parameters()), model, 0.5, x)


def test_distillation_that_cannot_go_on() -> None:
    rows = torch.randn(4, 12)
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 2))
    other: Any = make("mlp")
    other.hidden, other.head = nn.Linear(16, 24), nn.Linear(24, 5)
    with pytest.raises(
        MuxwrapError, match=r"\[4, 20\] behind the demuxer and \[4, 24\] in the teacher; give a teacher of"
    ):
        training.distill(model, [rows], 1, teacher=other, states=1.0, progress=False)
    with pytest.raises(MuxwrapError, match=r"the loss is (nan|inf) by step 2; a smaller lr= helps"):
        training.distill(model, [rows], 2, optimizer=partial(torch.optim.SGD, lr=1e38), every=2, progress=False)


def test_a_model_without_answers_teaches_nothing() -> None:
    class Words(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "yes"

    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 2))
    with pytest.raises(
        MuxwrapError, match="returned a str without a tensor, so there is no answer to teach; let it return"
    ):
        training.distill(model, [torch.randn(4, 12)], 1, teacher=Words(), progress=False)
