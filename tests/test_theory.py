"""The exact construction as laws over random sizes; what breaks it, measured beside the predicted error; capacity."""

from __future__ import annotations

import pytest
import torch
from helpers import numbers, random_state_untouched
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from muxwrap import MuxwrapError, theory

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
dtypes = st.sampled_from(list(TOLERANCE))
counts = st.integers(1, 5)
seeds = st.integers(0, 2**16)


def encoder(heads: int, size: int, depth: int, norm_first: bool, seed: int, dtype: torch.dtype) -> nn.Module:
    width = heads * size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width + 1, 0.0, "gelu", batch_first=True)
        layer.norm_first = norm_first
        norm = nn.LayerNorm(width) if norm_first else None
        made = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        for parameter in made.parameters():  # different in every layer, biases and norms included
            nn.init.normal_(parameter, 0.3, 0.5)
    return made.to(dtype)


def passes(encoder: nn.Module, x: Tensor, allowed: Tensor | None = None) -> Tensor:
    """n separate passes; ``allowed`` is [g, n, L, L]."""
    mask = None if allowed is None else ~allowed.flatten(0, 1).repeat_interleave(heads_of(encoder), dim=0)
    return encoder(x.flatten(0, 1), mask).view_as(x)


def heads_of(encoder: nn.Module) -> int:
    return next(m.num_heads for m in encoder.modules() if isinstance(m, nn.MultiheadAttention))


@given(
    n=counts,
    heads=st.integers(1, 3),
    size=st.integers(1, 5),
    depth=st.integers(1, 3),
    length=st.integers(1, 6),
    groups=st.integers(1, 3),
    norm_first=st.booleans(),
    masked=st.booleans(),
    scale=st.sampled_from(["mean", "sqrt", "sum", 0.3]),
    dtype=dtypes,
    seed=seeds,
)
def test_one_pass_is_n_passes(
    n: int,
    heads: int,
    size: int,
    depth: int,
    length: int,
    groups: int,
    norm_first: bool,
    masked: bool,
    scale: str | float,
    dtype: torch.dtype,
    seed: int,
) -> None:
    small = encoder(heads, size, depth, norm_first, seed, dtype)
    bases = theory.SlotCode.random(n, heads * size, n * heads * size + seed % 3, seed=seed, dtype=torch.float64).keys
    big = theory.multiplexed(small, code=theory.SlotCode(bases, scale=scale))
    x = numbers(seed, groups, n, length, heads * size, dtype=dtype)
    allowed = None
    if masked:  # each instance its own, the diagonal always
        allowed = (numbers(seed + 1, groups, n, length, length) > 0) | torch.eye(length, dtype=torch.bool)
    torch.testing.assert_close(big(x, allowed), passes(small, x, allowed), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(n=counts, rank=st.integers(1, 6), spare=st.integers(0, 3), outer=st.integers(0, 4), seed=seeds, dtype=dtypes)
def test_mixing_is_undone(n: int, rank: int, spare: int, outer: int, seed: int, dtype: torch.dtype) -> None:
    bases = theory.SlotCode.random(n, rank, n * rank + spare, seed=seed, dtype=torch.float64).keys
    subspace = theory.random_frame(rank + outer, rank, seed + 1)
    code = theory.SlotCode(bases, subspace, scale="mean").to(dtype)
    x = numbers(seed, 2, n, 3, rank, dtype=dtype) @ subspace.T.to(dtype)
    torch.testing.assert_close(code.unmix(code.mix(x)), x, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
