"""How many instances a code carries before anything is trained."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from muxwrap import strategies
from muxwrap.errors import MuxwrapError, check_dim
from muxwrap.strategies import Strategy

_APART = 1_000_003  # the vectors must not come from the stream that the strategy draws its keys from
_CHUNK = 256  # decoded rows at a time: the scores held at once are [_CHUNK, vocabulary]


@torch.no_grad()
def recovery(
    strategy: str | type[Strategy] | partial[Strategy],
    n: int,
    dim: int,
    vocabulary: int,
    *,
    positions: int = 64,
    indices: int = 5,
    seed: int = 0,
) -> float:
    """Return the share of tokens that a matched filter reads back from mixtures, with nothing trained.

    Token vectors are independent standard normal. Random tokens are mixed, the adjoint φ_iᵀ is applied to the mixture, and
    the token of the greatest cosine is the answer. (The adjoint and not an inverse, which for Gaussian Hadamard codes
    would divide by numbers near zero. The strategy's own scale cancels.)

    Args:
        strategy: any registered name, a class or a ``functools.partial`` of one.
        n: instances in a mixture.
        dim: size of the token vectors and of the mixture.
        vocabulary: V, tokens to choose from.
        positions: mixtures that are drawn.
        indices: of how many instances of each mixture the tokens are read, spread over 0 ... n - 1.
        seed: of tokens, vectors and φ.

    Returns:
        Between 0 and 1, over ``positions · min(n, indices)`` tokens.

    Raises:
        MuxwrapError: an unknown strategy, sizes that it refuses, or a vocabulary below 2.
    """
    _check_vocabulary(f"recovery({strategy!r}, n={n!r}, dim={dim!r}, vocabulary={vocabulary!r})", vocabulary)
    sizes: dict[str, Any] = {"n": n, "dim": dim, "seed": seed}
    phi = strategies.registry.build(strategy, **sizes)
    generator = torch.Generator().manual_seed(seed + _APART)
    table = torch.randn(vocabulary, dim, generator=generator)
    tokens = torch.randint(vocabulary, (positions, n), generator=generator)
    chosen = torch.linspace(0, n - 1, min(n, indices)).round().long()
    instances = table[tokens]
    # φ is linear, so that the product with its Jacobian is φ_iᵀ, whatever the strategy calls its own way back.
    adjoint = torch.func.vjp(phi.bind, torch.zeros_like(instances))[1]
    mixture = phi(instances).unsqueeze(1).expand_as(instances)
    read = adjoint(mixture)[0][:, chosen].flatten(0, 1)
    keys = F.normalize(table, dim=-1)
    found = torch.cat([(rows @ keys.T).argmax(-1) for rows in read.split(_CHUNK)])
    return (found == tokens[:, chosen].flatten()).float().mean().item()


def predicted_recovery(n: int, dim: int, vocabulary: int) -> float:
    """Return the recovery that orthogonal codes are predicted to have.

    What comes back for index i is ``x_i`` and n - 1 others rotated at random: a signal-to-noise ratio of 1 / (n - 1), so a
    cosine of 1/√n with the right token and of standard deviation 1/√d with any other. The right one wins where it is above
    V - 1 of those,

        P = ∫ φ(t - √(d/n)) Φ(t)^(V - 1) dt,    φ, Φ the standard normal density and distribution.

    Args:
        n: instances in a mixture.
        dim: d.
        vocabulary: V.

    Raises:
        MuxwrapError: a vocabulary below 2.
    """
    _check_vocabulary(f"predicted_recovery(n={n!r}, dim={dim!r}, vocabulary={vocabulary!r})", vocabulary)
    shift = math.sqrt(dim / n)
    t = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64) + shift
    density = torch.exp(-0.5 * (t - shift).square()) / math.sqrt(2 * math.pi)
    below = torch.exp((vocabulary - 1) * torch.special.log_ndtr(t))
    return torch.trapezoid(density * below, t).item()


def rule_of_thumb(dim: int, vocabulary: int) -> float:
    """Return N_max ≈ d / (2 ln V): there the right token's score √(d/N) meets √(2 ln V), the greatest of V chance ones.

    One half to two thirds of the tokens are recovered there; it is the knee, not the safe side.

    Raises:
        MuxwrapError: a bad dim, or a vocabulary below 2.
    """
    _check_vocabulary(f"rule_of_thumb(dim={dim!r}, vocabulary={vocabulary!r})", vocabulary)
    return check_dim(dim) / (2 * math.log(vocabulary))


def _check_vocabulary(call: str, vocabulary: int) -> None:
    if vocabulary < 2:
        raise MuxwrapError(f"{call}: a vocabulary of {vocabulary} leaves no choice; give 2 tokens or more")
