"""Slower learning for weights between instances: exactly those, at exactly the rate, with any optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from nets import Residual
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import muxwrap
from muxwrap.training import damp_crosstalk, start_apart

EXAMPLE = torch.zeros(1, 1, 8, 8)
TRUNK = ["block.weight", "back.weight"]


def wrapped(n: int = 3) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    model = muxwrap.wrap(Residual(11), n, "slots", "unbind", example_input=EXAMPLE)
    start_apart(model, EXAMPLE)
    return model


def train(model: nn.Module, optimizer: Optimizer, steps: int = 1) -> None:
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(12, 1, 8, 8, generator=rng)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("make", [lambda p: AdamW(p, lr=1e-2), lambda p: SGD(p, lr=1e-3, momentum=0.9)])
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_a_step_changes_crosstalk_by_the_rate_and_all_else_as_before(
    make: Callable[[object], Optimizer], rate: float
) -> None:
    model = wrapped()
    plain, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    optimizer = make(model.parameters())
    assert damp_crosstalk(optimizer, model, rate, EXAMPLE) == TRUNK
    train(plain, make(plain.parameters()))
    train(model, optimizer)
    expected = plain.state_dict()
    for name in TRUNK:
        key = f"backbone.{name}"
        crosstalk = before[key] == 0  # where the trunk starts apart
        assert 0.5 < crosstalk.float().mean() < 0.8 and (expected[key][crosstalk] != 0).all()
        expected[key][crosstalk] *= rate
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_at_rate_zero_instances_stay_unheard_by_each_other(n: int) -> None:
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    other = torch.cat([-x[:1], x[1:]])  # only instance 0 differs
    for rate, apart in ((0.0, True), (0.5, False)):
        model = wrapped(n)
        optimizer = AdamW(model.parameters(), lr=1e-2)
        damp_crosstalk(optimizer, model, rate, EXAMPLE)
        train(model, optimizer, steps=3)
        with torch.no_grad():
            assert torch.allclose(model(other)[1:], model(x)[1:], atol=1e-5) == apart


def test_a_checkpoint_of_model_and_optimizer_has_nothing_of_it() -> None:
    model = wrapped()
    optimizer = AdamW(model.parameters())
    keys = list(model.state_dict()), list(optimizer.state_dict())
    damp_crosstalk(optimizer, model, example_input=EXAMPLE)
    train(model, optimizer)
    assert (list(model.state_dict()), list(optimizer.state_dict())) == keys
    AdamW(copy.deepcopy(model).parameters()).load_state_dict(optimizer.state_dict())


def test_weights_that_the_optimizer_lacks_are_left_out() -> None:
    model = wrapped()
    names = damp_crosstalk(SGD([model.backbone.back.weight], lr=1.0), model, example_input=EXAMPLE)
    assert names == ["back.weight"]
    with pytest.raises(muxwrap.MuxwrapError, match="none of the trunk's weights"):
        damp_crosstalk(SGD(model.backbone.head.parameters(), lr=1.0), model, example_input=EXAMPLE)


def test_what_it_cannot_do_is_refused() -> None:
    model = wrapped()
    optimizer = SGD(model.parameters(), lr=1.0)
    for rate in (-0.1, 1.5, float("nan")):
        with pytest.raises(muxwrap.MuxwrapError, match=f"rate={rate}"):
            damp_crosstalk(optimizer, model, rate, EXAMPLE)
    with pytest.raises(muxwrap.MuxwrapError, match=r"damp_crosstalk\(Residual\): not a wrapped model"):
        damp_crosstalk(optimizer, Residual(11))  # type: ignore[arg-type]
    codes = muxwrap.wrap(Residual(11), 3, "hadamard", example_input=EXAMPLE)
    with pytest.raises(muxwrap.MuxwrapError, match=r"damp_crosstalk\(model\): .* strategy='slots'"):
        damp_crosstalk(optimizer, codes, example_input=EXAMPLE)
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_weights_that_the_optimizer_gets_later_are_damped_too() -> None:
    model = wrapped()
    optimizer = SGD([model.backbone.back.weight], lr=0.1)
    assert damp_crosstalk(optimizer, model, 0.0, EXAMPLE) == ["back.weight"]
    crosstalk = model.backbone.block.weight == 0
    optimizer.add_param_group({"params": [model.backbone.block.weight]})
    train(model, optimizer)
    assert (model.backbone.block.weight[crosstalk] == 0).all() and (
        model.backbone.block.weight.grad[crosstalk] != 0
    ).any()


def test_a_deep_copy_of_model_and_optimizer_goes_on_alike_and_apart() -> None:
    model = wrapped()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    damp_crosstalk(optimizer, model, 0.0, EXAMPLE)
    train(model, optimizer)
    other, its_optimizer = copy.deepcopy((model, optimizer))
    before = copy.deepcopy(model.state_dict())
    train(other, its_optimizer, steps=2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    train(model, optimizer, steps=2)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())
    third = copy.deepcopy((other, its_optimizer))
    train(*third)
    crosstalk = wrapped().backbone.block.weight == 0
    assert (third[0].backbone.block.weight[crosstalk] == 0).all()


def test_frozen_weights_are_left_alone_and_not_started_apart() -> None:
    model = wrapped()
    model.backbone.block.weight.requires_grad_(False)
    before = model.backbone.block.weight.clone()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    damp_crosstalk(optimizer, model, 0.5, EXAMPLE)
    train(model, optimizer)
    assert torch.equal(model.backbone.block.weight, before)
    with pytest.raises(muxwrap.MuxwrapError, match=r"start_apart\(model\): block.weight is frozen"):
        start_apart(model, EXAMPLE)
    assert torch.equal(model.backbone.block.weight, before)


def test_a_skipped_step_of_a_gradient_scaler_changes_nothing() -> None:
    model = wrapped()
    optimizer = SGD(model.parameters(), lr=1.0)
    damp_crosstalk(optimizer, model, 0.5, EXAMPLE)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = copy.deepcopy(model.state_dict())
    for value in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(12, 1, 8, 8)).square().mean() * value).backward()
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(now, before[key]) for key, now in model.state_dict().items())
        assert same == (value == float("inf"))
