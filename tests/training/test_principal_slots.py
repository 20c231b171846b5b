"""Slots that begin with the principal directions of what is mixed."""

from __future__ import annotations

import pytest
import torch
from nets import CNN, MLP
from texts import sentences, tiny
from torch import nn

import muxwrap
from muxwrap.training import principal_slots


def low_rank(rank: int) -> nn.Sequential:
    """A stem whose output lies in few directions."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, rank), nn.Linear(rank, 16, bias=False), nn.Linear(16, 16), nn.Linear(16, 3))


def test_a_slot_holds_all_of_what_lies_in_few_directions() -> None:
    net = low_rank(4)
    model = muxwrap.wrap(net, 4, "slots", mux_at="1", demux_at="3", example_input=torch.zeros(1, 6))
    x = torch.randn(40, 6)
    h = net[:2](x).view(10, 4, 16)
    assert (model.strategy.separate(model.strategy(h)) - h).norm() > 0.5 * h.norm()
    kept = principal_slots(model, x.split(16))
    assert kept == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(model.strategy.separate(model.strategy(h)), h, atol=1e-4, rtol=1e-4)


def test_a_slot_keeps_the_most_that_so_many_directions_can() -> None:
    torch.manual_seed(0)
    net = MLP()
    model = muxwrap.wrap(net, 3, "slots", mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12))
    x = torch.randn(200, 12) @ torch.randn(12, 12)
    kept = principal_slots(model, [(x[:100], torch.zeros(100)), (x[100:], torch.zeros(100))], seed=5)
    h = net.stem(x).detach()
    _, singular, directions = torch.linalg.svd(h, full_matrices=False)
    sizes = model.strategy.slot_sizes
    assert kept == pytest.approx(float(singular[: sizes[0]].square().sum() / singular.square().sum()), rel=1e-4)
    maps = model.strategy.keys.split(sizes)
    for rows in maps:
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
        best = directions[: len(rows)]
        torch.testing.assert_close(rows.T @ rows, best.T @ best, atol=1e-3, rtol=0)
    assert not torch.allclose(maps[1], maps[2])  # turned by rotations of their own


def test_padding_does_not_count() -> None:
    torch.manual_seed(0)
    models = [muxwrap.wrap(tiny("sequence", "bert"), 2, "slots") for _ in range(2)]
    given = sentences((9, 4, 6, 2))
    other = {**given, "input_ids": given["input_ids"].masked_fill(given["attention_mask"] == 0, 30)}
    for model, batch in zip(models, (given, {**other, "labels": torch.zeros(4)}), strict=True):
        principal_slots(model, [batch])
    torch.testing.assert_close(models[0].strategy.keys, models[1].strategy.keys)


def test_feature_maps_have_a_direction_per_channel() -> None:
    model = muxwrap.wrap(CNN(), 2, "slots", mux_at="stem", demux_at="fc", example_input=torch.zeros(1, 2, 6, 6)).train()
    before = model(torch.randn(4, 2, 6, 6)).shape
    assert 0.5 < principal_slots(model, [torch.randn(8, 2, 6, 6)]) < 1
    assert model.training and model(torch.randn(4, 2, 6, 6)).shape == before


def test_what_is_refused() -> None:
    net = low_rank(4)
    model = muxwrap.wrap(net, 2, "sign", mux_at="1", demux_at="3", example_input=torch.zeros(1, 6))
    with pytest.raises(muxwrap.MuxwrapError, match=r"principal_slots.*Sign.*strategy='slots'"):
        principal_slots(model, [torch.zeros(2, 6)])
    with pytest.raises(muxwrap.MuxwrapError, match="not a wrapped model"):
        principal_slots(net, [torch.zeros(2, 6)])  # type: ignore[arg-type]
    muxwrap.unwrap(model)
    model = muxwrap.wrap(net, 2, "slots", mux_at="1", demux_at="3", example_input=torch.zeros(1, 6))
    with pytest.raises(muxwrap.MuxwrapError, match="there is no row"):
        principal_slots(model, [])
    with pytest.raises(muxwrap.MuxwrapError, match=r"principal_slots.*dict.*no tensor that Sequential takes"):
        principal_slots(model, [{"pictures": torch.zeros(2, 6)}])
