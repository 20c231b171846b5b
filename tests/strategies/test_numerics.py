"""Half precision at large n: nothing overflows that has a place in the dtype, and sums lose no more than rounding."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from helpers import numbers
from torch import Tensor

from muxwrap.strategies import Strategy, registry

N = 64
HALF = (torch.float16, torch.bfloat16)
NAMES = registry.names()
LINEAR = [name for name in NAMES if name not in ("contextual", "nonlinear")]


def made(name: str, **options: Any) -> tuple[Strategy, tuple[int, ...]]:
    """A strategy for 64 instances, and the shape of an instance."""
    cls = registry.get(name)
    if cls.sees == "image":
        size = {"size": (16, 16)} if "size" in inspect.signature(cls).parameters else {}
        return cls(n=N, dim=3, **size, **options), (3, 16, 16)
    dim = 128
    return cls(n=N, dim=dim, **options), (64, dim) if cls.sees == "tokens" else (2, dim)


def mixed(name: str, x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The mixture in the dtype of ``x``, and in float64 of the same numbers and keys."""
    phi, _ = made(name, **options)
    phi = phi.to(x.dtype)
    with torch.no_grad():
        return phi(x).double(), phi.double()(x.double())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("scale", ["mean", "sqrt"])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_dtype_holds_does_not_overflow(name: str, scale: str, dtype: torch.dtype) -> None:
    _, shape = made(name)
    x = 4000 + 3000 * numbers(0, 1, N, *shape).clamp(-1, 1)  # all of a sign, as behind a ReLU
    found, exact = mixed(name, x.to(dtype), scale=scale)
    held = exact.abs() < 0.9 * torch.finfo(dtype).max
    assert held.double().mean() > 0.9
    assert found[held].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", LINEAR)
def test_the_sum_of_64_instances_is_rounded_little(name: str, dtype: torch.dtype) -> None:
    _, shape = made(name)
    found, exact = mixed(name, numbers(1, 2, N, *shape, dtype=dtype))
    error = (found - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < N**0.5 * torch.finfo(dtype).eps / 4


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["hadamard", "sign", "walsh"])
def test_keys_that_are_zero_in_a_dtype_divide_nothing_by_zero(name: str, dtype: torch.dtype) -> None:
    phi, shape = made(name, learnable=True)
    tiny = torch.finfo(dtype).tiny
    with torch.no_grad():
        for keys in phi.parameters():
            keys[0, :3] = torch.tensor([0.0, tiny / 4, -tiny / 4])
        phi = phi.to(dtype)
        x = numbers(2, 1, N, *shape, dtype=dtype)
        x[:, 0, :, :3] = 0
        back = phi.unbind(phi.bind(x))
    assert back.isfinite().all()
    torch.testing.assert_close(back[:, 1:], x[:, 1:], atol=0.2 if dtype in HALF else 1e-4, rtol=0.05)


@pytest.mark.parametrize("dtype", HALF)
def test_the_fft_of_half_precision_is_that_of_float32(dtype: torch.dtype) -> None:
    phi, shape = made("circular")
    x = numbers(3, 2, N, *shape, dtype=dtype)
    with torch.no_grad():
        for way in (phi, phi.bind, phi.unbind):
            assert torch.equal(way(x), way(x.float()).to(dtype))
