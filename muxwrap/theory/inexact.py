"""Where the construction is no longer exact: the measured error beside a predicted one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError, check_count, check_dim
from muxwrap.theory.code import SlotCode, random_frame
from muxwrap.theory.encoder import multiplexed
from muxwrap.theory.weights import Affine, attention_of


@dataclass(frozen=True)
class Error:
    """Relative errors ‖got - exact‖ / ‖exact‖ over all numbers: as measured, and as the formula predicts."""

    measured: float
    predicted: float


@torch.no_grad()
def shared_heads_error(attention: nn.MultiheadAttention, x: Tensor, groups: int) -> Error:
    """Return the error of self-attention with fewer head groups than instances.

    m = n / groups instances share a head, whose logits are the sum of theirs: instance i attends by q ∝ Π_j p_j where it
    wanted p_i. Prediction: logits that are Gaussian over the keys with variance σ_i², independent between instances and of
    the values, have for L keys ``E Σ p_i² = exp(σ_i²) / L``, ``E Σ q² = exp(Σ_j σ_j²) / L`` and
    ``E Σ p_i q = exp(σ_i²) / L``; so with V the variance of the values (times W_O) over the keys

        E ‖got - exact‖² = V / L · (exp(Σ_j σ_j²) - exp(σ_i²)),

    summed over queries and heads. Where the exact outputs are themselves such means, the relative error is
    ``sqrt(exp((m - 1) σ²) - 1)``. Valid for L well above exp(m σ²): patterns that are not peaked.

    Args:
        attention: of one instance's width.
        x: instances ``[g, n, L, width]``.
        groups: head groups, a divisor of n; with n of them the error is rounding.

    Raises:
        MuxwrapError: as :func:`~muxwrap.theory.multiplexed`.
    """
    n, length = x.shape[1], x.shape[2]
    code = SlotCode.coordinates(n, x.shape[-1], dtype=x.dtype)
    exact, got = multiplexed(attention, code=code)(x), multiplexed(attention, code=code, groups=groups)(x)
    weights = attention_of(attention)
    q, k, v = (_heads(x, each, weights.heads) for each in (weights.query, weights.key, weights.value))
    spread = (q @ k.mT / q.shape[-1] ** 0.5).var(-1, correction=0)  # σ²: [g, n, heads, L]
    shared = spread.unflatten(1, (groups, -1)).sum(2, keepdim=True).expand(-1, -1, n // groups, -1, -1).flatten(1, 2)
    out = weights.out[0].unflatten(1, (weights.heads, -1)).movedim(1, 0)  # [heads, width, head]
    values = (v @ out.mT).var(-2, correction=0).sum(-1, keepdim=True)  # V: [g, n, heads, 1]
    square = (values / length * (shared.exp() - spread.exp())).sum()
    return Error(_relative(got, exact), (square / exact.square().sum()).sqrt().item())


@torch.no_grad()
def shared_norm_error(x: Tensor) -> Error:
    """Return the error of one ordinary layer norm over the whole mixture, slots being consecutive coordinates.

    A token of instance i with mean μ_i and deviation σ_i ought to become ``z_i = (x_i - μ_i) / σ_i``. The shared norm
    takes μ = mean_j μ_j and σ² = mean_j σ_j² + var_j μ_j from all of them and gives ``(σ_i z_i + μ_i - μ) / σ``. As the z_i
    have mean 0 and square 1, exactly

        ‖got - exact‖² / ‖exact‖² = mean_i [ (σ_i / σ - 1)² + ((μ_i - μ) / σ)² ]:

    nothing where all slots agree in mean and deviation, and otherwise their spread. An RMS norm has the first term only,
    with root mean squares for σ.

    Args:
        x: instances ``[g, n, L, width]``, width above 1.

    Raises:
        MuxwrapError: another shape.
    """
    if x.ndim != 4 or x.shape[-1] < 2:
        raise MuxwrapError(f"shared_norm_error(x of shape {list(x.shape)}): x is [groups, n, L, width], width above 1")
    code = SlotCode.coordinates(x.shape[1], x.shape[3], dtype=x.dtype)
    got = code.unmix(F.layer_norm(code.mix(x), (code.dim,), eps=0.0))
    mean, deviation = x.mean(-1), x.std(-1, correction=0)
    shared_mean = mean.mean(1, keepdim=True)
    shared = (deviation.square().mean(1, keepdim=True) + mean.var(1, correction=0, keepdim=True)).sqrt()
    square = ((deviation / shared - 1).square() + ((mean - shared_mean) / shared).square()).mean()
    return Error(_relative(got, F.layer_norm(x, (x.shape[3],), eps=0.0)), square.sqrt().item())


@torch.no_grad()
def full_rank_error(n: int, rank: int, dim: int, *, overlap: bool = False, tokens: int = 512, seed: int = 0) -> Error:
    """Return what is lost in mixing n instances of ``rank`` dimensions in ``dim``, where ``n · rank`` may exceed ``dim``.

    Instances are isotropic (standard normal). Apart, each has ``floor(dim / n)`` dimensions of its own and loses the rest:

        ‖got - x‖² / ‖x‖² = 1 - floor(dim / n) / rank,    0 where n · rank <= dim.

    No linear code does better (up to the floor): of n·r independent coordinates a dim-dimensional mixture keeps dim.
    Overlapping, each has a random frame of its own (rank <= dim), nothing of it is lost, and the n - 1 others come along:

        ‖got - x‖² / ‖x‖² = (n - 1) rank / dim.

    Args:
        n: instances.
        rank: r, dimensions of an instance.
        dim: of the mixture.
        overlap: random overlapping frames read by their transpose, instead of slots.
        tokens: how many are drawn.
        seed: of the code and the tokens.

    Raises:
        MuxwrapError: a number below 1, more instances than dimensions, or overlapping frames with rank > dim.
    """
    call = f"full_rank_error(n={n!r}, rank={rank!r}, dim={dim!r}, overlap={overlap})"
    check_count(n), check_dim(rank), check_dim(dim)
    lossless = rank if overlap else min(rank, dim // n)
    if lossless < 1 or lossless > dim:
        raise MuxwrapError(
            f"{call}: {'a frame needs rank <= dim' if overlap else 'every slot needs a dimension, n <= dim'}"
        )
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, tokens, rank, generator=generator, dtype=torch.float64)
    if overlap:
        frames = torch.stack([random_frame(dim, rank, seed + 1 + i).T for i in range(n)])  # Q_iᵀ: [n, rank, dim]
        got = (x @ frames).sum(0) @ frames.mT
        return Error(_relative(got, x), ((n - 1) * rank / dim) ** 0.5)
    narrow = torch.stack([random_frame(rank, lossless, seed + 1 + i) for i in range(n)])  # [n, rank, lossless]
    code = SlotCode.random(n, lossless, dim, seed=seed, dtype=torch.float64)
    got = code.unmix(code.mix((x @ narrow).unsqueeze(0)))[0] @ narrow.mT
    return Error(_relative(got, x), (1 - lossless / rank) ** 0.5)


def _relative(got: Tensor, exact: Tensor) -> float:
    return ((got - exact).norm() / exact.norm()).item()


def _heads(x: Tensor, affine: Affine, heads: int) -> Tensor:
    return F.linear(x, *affine).unflatten(-1, (heads, -1)).transpose(-2, -3)  # [g, n, heads, L, head]
