"""Rotations that learn and stay rotations, and the start at which the first instance is left alone."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from nets import MLP
from torch import Tensor
from torch.testing import assert_close

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import Orthogonal
from muxwrap.strategies.keys import nearest_rotations, rotations

HELD = partial(Orthogonal, learnable=True, held=True)


def apart(keys: Tensor) -> float:
    """How far matrices are from being orthogonal."""
    return float((keys @ keys.mT - torch.eye(keys.shape[-1])).abs().max().detach())


@torch.no_grad()
def shake(strategy: Orthogonal, size: float) -> None:
    """Move the keys away from rotations."""
    strategy.keys.add_(size * torch.randn(strategy.keys.shape, generator=torch.Generator().manual_seed(2)))


def train(strategy: Orthogonal, lr: float, steps: int = 20) -> None:
    """Train towards a target that no rotation reaches."""
    rng = torch.Generator().manual_seed(0)
    x, target = torch.randn(16, strategy.n, 12, generator=rng), torch.randn(16, 12, generator=rng)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (strategy(x) - target).square().mean().backward()
        optimizer.step()


def test_the_nearest_rotation_is_the_polar_factor() -> None:
    near = rotations(0, 3, 12) + 0.05 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(near)
    assert_close(nearest_rotations(near), u @ vh, atol=1e-5, rtol=0)
    exact = rotations(0, 3, 12)
    assert_close(nearest_rotations(exact), exact, atol=1e-6, rtol=0)
    assert nearest_rotations(near.bfloat16()).dtype == torch.bfloat16


def test_whatever_comes_in_nothing_grows() -> None:
    far = 50 * torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(1))
    assert torch.linalg.matrix_norm(nearest_rotations(far), 2).max() <= 1 + 1e-5


@pytest.mark.parametrize("lr", [1e-3, 3e-2])
def test_held_keys_are_orthogonal_after_training(lr: float) -> None:
    free, held = (Orthogonal(3, 12, learnable=True, held=held) for held in (False, True))
    start = held.keys.detach().clone()
    for strategy in (free, held):
        train(strategy, lr)
        strategy.eval()
    assert apart(free.keys) > 1e-3
    assert apart(held.keys) < 1e-5
    assert (held.keys - start).abs().max() > 5 * lr  # they have learned
    assert held.isometric and held.invertible


def test_held_keys_stay_as_they_are_in_evaluation_and_between_steps() -> None:
    strategy = HELD(3, 12).eval()
    shake(strategy, 0.1)
    kept = strategy.keys.detach().clone()
    strategy(torch.randn(2, 3, 12))
    assert torch.equal(strategy.keys, kept)  # what was loaded is what answers
    strategy.train()
    first = strategy(torch.randn(2, 3, 12))
    second = strategy(torch.randn(2, 3, 12))  # a second pass before backward finds the same keys
    (first + second).sum().backward()
    assert strategy.keys.grad is not None and apart(strategy.keys) < 1e-5


def test_held_keys_unbind_what_they_bind_after_training() -> None:
    strategy = HELD(3, 12)
    train(strategy, 1e-2)
    strategy.eval()
    x = torch.randn(4, 3, 12)
    assert_close(strategy.unbind(strategy.bind(x)), x, atol=1e-5, rtol=1e-5)


def test_autocast_does_not_round_them() -> None:
    strategy = HELD(3, 12)
    shake(strategy, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        strategy(torch.randn(2, 3, 12))
    assert apart(strategy.keys) < 1e-5


def test_compiled_training_holds_them() -> None:
    strategy = HELD(3, 12)
    compiled = torch.compile(strategy, backend="eager", fullgraph=True)
    train(compiled, 3e-2)
    strategy.eval()
    assert apart(strategy.keys) < 1e-5


def test_the_first_instance_can_be_left_alone() -> None:
    strategy = Orthogonal(3, 12, identity_first=True)
    x = torch.randn(4, 3, 12)
    bound = strategy.bind(x)
    assert torch.equal(bound[:, 0], x[:, 0]) and not torch.allclose(bound[:, 1], x[:, 1])
    assert apart(strategy.keys) < 1e-5


def test_they_are_saved_and_copied(tmp_path: object) -> None:
    model = muxwrap.wrap(
        MLP(), 3, partial(HELD, identity_first=True), mux_at="stem", demux_at="head", example_input=torch.randn(1, 12)
    )
    model.save_pretrained(str(tmp_path))
    loaded = muxwrap.load(str(tmp_path), MLP())
    x = torch.randn(7, 12)
    for other in (loaded, copy.deepcopy(model)):
        assert other.strategy.held and other.strategy.identity_first
        torch.testing.assert_close(other.eval()(x), model.eval()(x))


def test_fixed_keys_are_not_held() -> None:
    with pytest.raises(MuxwrapError, match=r"orthogonal\(held=True\).*learnable=True"):
        Orthogonal(2, 8, held=True)
