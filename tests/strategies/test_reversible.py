"""Coupled slots: taken back exactly, and all that learns beside a frozen backbone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same_state, move_parameters, numbers
from hypothesis import given
from hypothesis import strategies as st
from nets import make
from torch import Tensor
from torch.testing import assert_close

import muxwrap
from muxwrap.demuxers import Uncouple
from muxwrap.strategies import Reversible, Sign
from muxwrap.training import distill


def moved(n: int, dim: int, seed: int = 0, **options: int) -> Reversible:
    strategy = Reversible(n, dim, seed=seed, **options).double()
    move_parameters(strategy, seed)
    return strategy


@given(
    n=st.integers(1, 6),
    extra=st.integers(0, 12),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from(["sum", "mean"]),
)
def test_what_is_coupled_comes_back_exactly(n: int, extra: int, seed: int, scale: str) -> None:
    strategy = Reversible(n, n + extra, hidden=7, scale=scale, seed=seed).double()
    move_parameters(strategy, seed)
    slots = [numbers(seed + i, 2, 3, size) for i, size in enumerate(strategy.slot_sizes)]
    mixture = strategy.couple(slots)
    assert mixture.shape == (2, 3, n + extra)
    for slot, wanted in zip(strategy.uncouple(mixture), slots, strict=True):
        assert_close(slot, wanted, rtol=0, atol=1e-9 * float(mixture.detach().abs().max()))


def net(strategy: Reversible, k: int, x: Tensor) -> Tensor:
    inner = F.relu(x @ getattr(strategy, f"into_{k}").T + getattr(strategy, f"into_{k}_bias"))
    return F.relu(inner @ getattr(strategy, f"out_{k}").T + getattr(strategy, f"out_{k}_bias"))


def test_the_chain_is_the_papers() -> None:
    strategy = moved(2, 8)
    x = numbers(1, 3, 2, 8)
    first, second = (x[:, i] @ strategy.keys[4 * i : 4 * i + 4].T for i in (0, 1))
    y = first + net(strategy, 0, second)
    z = second + net(strategy, 1, y)
    assert_close(strategy(x), torch.cat([y, z], -1))

    three = moved(3, 9)
    a, b, c = (numbers(i, 2, 3) for i in range(3))
    y = b + net(three, 0, c)
    z = a + net(three, 1, y)
    assert_close(three.couple([a, b, c]), torch.cat([y, z, c + net(three, 2, z)], -1))


def test_every_slot_reaches_the_others() -> None:
    strategy = moved(3, 12)
    x = numbers(0, 1, 3, 12)
    mixture = strategy(x)
    changed = x.clone()
    changed[:, 2] += 1
    assert bool(((strategy(changed) - mixture).abs().split(4, -1)[0] > 1e-6).any())


def test_an_instance_comes_back_where_the_nets_can_tell() -> None:
    """With an untouched mixture the demuxer sees each instance's own slot, whatever its companions were."""
    strategy = moved(2, 8)
    demuxer = Uncouple(2, 8, strategy=strategy).double()
    x = numbers(0, 2, 2, 8)
    other = x.clone()
    other[:, 1] = numbers(9, 2, 8)
    assert_close(demuxer(strategy(x))[:, 0], demuxer(strategy(other))[:, 0])
    cut = Uncouple(2, 8, strategy=Sign(2, 8)).double()
    assert not torch.allclose(cut(strategy(x))[:, 0], cut(strategy(other))[:, 0])


def test_its_own_demuxer_is_the_default() -> None:
    model = muxwrap.wrap(
        make("mlp"), 2, "reversible", mux_at="stem", demux_at="hidden", example_input=torch.randn(1, 12)
    )
    assert isinstance(model.demuxer, Uncouple)
    assert muxwrap.wrap(make("mlp"), 2, "reversible", "mlp", example_input=torch.randn(1, 12)).demuxer.name == "mlp"


def test_other_sizes_are_refused() -> None:
    with pytest.raises(
        muxwrap.MuxwrapError, match=r"uncouple\(n=2, dim=20\) cannot take apart .*dim=16.*demuxer 'mlp'"
    ):
        muxwrap.wrap(make("mlp"), 2, "reversible", mux_at="stem", demux_at="head", example_input=torch.randn(1, 12))


def test_beside_a_frozen_backbone_all_else_learns(tmp_path: Path) -> None:
    backbone = make("mlp").requires_grad_(False)
    before = copy.deepcopy(backbone)
    model = muxwrap.wrap(backbone, 2, "reversible", mux_at="stem", demux_at="hidden", example_input=torch.randn(1, 12))
    start = {name: value.clone() for name, value in model.named_parameters()}
    x = numbers(0, 64, 12, dtype=torch.float32)
    distill(model, x.split(16), 8, lr=1e-2, states=1.0, progress=False)
    assert_same_state(backbone, before)
    learned = {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}
    assert learned == {name for name in start if name.startswith(("strategy.", "demuxers."))}
    model.save_pretrained(tmp_path)
    again = muxwrap.load(tmp_path, make("mlp")).eval()
    assert_close(again(x), model.eval()(x))
