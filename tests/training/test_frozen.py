"""Distillation where the backbone stays as it is, or a little of it learns: norms, or PEFT's adapters."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import make
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap.training import distill

ROWS = [sentences((9, 7, 9, 6), padding=0, seed=seed) for seed in range(4)]


def bert() -> nn.Module:
    return tiny("sequence", "bert", num_hidden_layers=3)


def learned(model: muxwrap.Multiplex) -> set[str]:
    """Distil in a few steps, and return the names of the parameters that have moved."""
    before = {name: value.clone() for name, value in model.named_parameters()}
    distill(model, ROWS, 4, lr=1e-2, progress=False)
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def kinds(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_only_what_is_added_learns() -> None:
    model = muxwrap.wrap(bert().requires_grad_(False), 2, "reversible", mux_at="bert.encoder.layer.1")
    assert kinds(learned(model)) == {"strategy", "demuxers"}


def test_norms_learn_as_well() -> None:
    backbone = bert()
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_("LayerNorm" in name)
    names = learned(muxwrap.wrap(backbone, 2, "reversible", mux_at="bert.encoder.layer.1"))
    assert kinds(names) == {"backbone", "strategy", "demuxers"}
    assert all("LayerNorm" in name for name in names if name.startswith("backbone"))


@pytest.mark.parametrize(("strategy", "others"), [("reversible", {"strategy", "demuxers"}), ("pool", set())])
def test_adapters_learn_and_the_weights_below_them_stay(strategy: str, others: set[str]) -> None:
    peft = pytest.importorskip("peft")
    bare = bert()
    shell = peft.get_peft_model(copy.deepcopy(bare), peft.LoraConfig(r=2, target_modules=["query", "value"]))
    model = muxwrap.wrap(shell, 2, strategy, mux_at="base_model.model.bert.encoder.layer.1")
    names = learned(model)
    assert kinds(names) == {"backbone", *others}
    assert all("lora_" in name for name in names if name.startswith("backbone"))
    teacher = distill(model, ROWS, 1, progress=False).teacher
    torch.testing.assert_close(answers(teacher), answers(bare))


@torch.no_grad()
def answers(model: nn.Module) -> Tensor:
    return model(**ROWS[0]).logits


def test_where_nothing_learns_it_is_refused() -> None:
    model = muxwrap.wrap(
        make("mlp").requires_grad_(False),
        2,
        "sign",
        "unbind",
        mux_at="stem",
        demux_at="hidden",
        example_input=torch.randn(1, 12),
    )
    with pytest.raises(muxwrap.MuxwrapError, match=r"distill\(MLP\): no parameter requires a gradient"):
        distill(model, [torch.randn(4, 12)], 1, progress=False)
