"""A trunk that begins as n copies of one network."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import assert_same_state
from nets import Residual
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import muxwrap
from muxwrap.training import start_apart

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
CONFIG = BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **SIZES)
IDS = torch.arange(5, 5 + 4 * 9).view(4, 9)


def bert(n: int = 4, **options: object) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    return muxwrap.wrap(BertForSequenceClassification(CONFIG), n, demux="unbind", **options).eval()


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_an_instance_is_not_heard_by_the_others(n: int) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Residual(12), n, "slots", "unbind", example_input=torch.zeros(1, 1, 8, 8))
    x = torch.randn(n, 1, 8, 8)
    other = torch.cat([torch.randn(1, 1, 8, 8), x[1:]])  # only instance 0 differs
    with torch.no_grad():
        assert not torch.allclose(model(other)[1:], model(x)[1:])
        assert start_apart(model, torch.zeros(1, 1, 8, 8)) == ["block.weight", "back.weight"]
        torch.testing.assert_close(model(other)[1:], model(x)[1:])
        assert not torch.allclose(model(other)[0], model(x)[0])


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_every_index_begins_alike(n: int) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Residual(12), n, "slots", "unbind", example_input=torch.zeros(1, 1, 8, 8))
    nn.init.zeros_(model.backbone.stem.bias)
    x, order = torch.randn(n, 1, 8, 8), torch.arange(n).roll(1)
    with torch.no_grad():
        assert not torch.allclose(model(x[order]), model(x)[order])
        start_apart(model, torch.zeros(1, 1, 8, 8))
        torch.testing.assert_close(model(x[order]), model(x)[order])


@pytest.mark.parametrize("strategy", ["slots", "binary"])
def test_blocks_of_unequal_size(strategy: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 11), nn.Linear(11, 22), nn.Linear(22, 13), nn.Linear(13, 11), nn.Linear(11, 2))
    model = muxwrap.wrap(net, 4, strategy, "unbind", example_input=torch.zeros(1, 3))
    x = torch.randn(4, 3)
    other = torch.cat([x[:3], torch.randn(1, 3)])
    start_apart(model, torch.zeros(1, 3))
    small, large = (3, 2) if strategy == "slots" else (2, 5)  # sizes of the first and of the last block
    same = min(small, large)
    first, last = net[1].weight[:same, :same], net[1].weight[11 - large : 11, 11 - large :][:same, :same]
    torch.testing.assert_close(last * large**0.5, first * small**0.5)  # equal but for the gain
    with torch.no_grad():
        torch.testing.assert_close(model(other)[:3], model(x)[:3])
        assert not torch.allclose(model(other)[3], model(x)[3])


def test_transformers_make_their_own_example_and_heads_stay() -> None:
    model = bert()
    for name, value in model.backbone.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(value)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    changed = start_apart(model)
    assert len(changed) == 2 * 6 and all(name.startswith("bert.encoder.layer.") for name in changed)
    changed += [name.replace("weight", "bias") for name in changed]
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in changed), name
    bias = model.backbone.bert.encoder.layer[1].intermediate.dense.bias
    assert torch.equal(
        bias, before["bert.encoder.layer.1.intermediate.dense.bias"][[*range(6)] * 4 + [*range(24, 30)] * 4]
    )


def test_a_layer_keeps_the_size_of_its_output() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 240), nn.Linear(240, 720), nn.Linear(720, 240), nn.Linear(240, 2))
    model = muxwrap.wrap(net, 5, demux="unbind", example_input=torch.zeros(1, 8))
    x = torch.randn(400, 240)
    before = [net[1](x).std(), net[2](net[1](x)).std()]
    assert start_apart(model, torch.zeros(1, 8)) == ["1.weight", "2.weight"]
    after = [net[1](x).std(), net[2](net[1](x)).std()]
    torch.testing.assert_close(torch.stack(after), torch.stack(before), rtol=0.1, atol=0)
    assert (net[1].weight == 0).float().mean() == pytest.approx(0.8)


def test_weights_of_torchs_attention_are_found() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            return self.head(h + self.attend(h, h, h, need_weights=False)[0])

    example = torch.randn(1, 5, 6)
    model = muxwrap.wrap(Net(), 2, demux="unbind", example_input=example, demux_at="head")
    assert start_apart(model, example) == ["attend.in_proj_weight", "attend.out_proj.weight"]


def test_zeros_are_no_constraint() -> None:
    model = bert().train()
    name = start_apart(model)[0]
    weight = model.backbone.get_parameter(name)
    zeros = weight == 0
    model(input_ids=IDS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert weight.grad is not None and (weight.grad[zeros] != 0).float().mean() > 0.9


def test_what_it_cannot_do_is_refused_and_changes_nothing() -> None:
    model = bert(strategy="hadamard")
    before = copy.deepcopy(model)
    with pytest.raises(muxwrap.MuxwrapError, match="strategy='slots'"):
        start_apart(model)
    assert_same_state(model, before)
    with pytest.raises(muxwrap.MuxwrapError, match=r"start_apart\(Linear\): not a wrapped model"):
        start_apart(nn.Linear(2, 2))  # type: ignore[arg-type]
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    net = muxwrap.wrap(layers, 2, mux_at="0", demux_at="2", example_input=torch.zeros(1, 3))
    with pytest.raises(muxwrap.MuxwrapError, match="no linear or convolutional weight"):
        start_apart(net, torch.zeros(1, 3))
