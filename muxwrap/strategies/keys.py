"""How keys are drawn, the same ones for a seed on every machine, and how they are laid over instances.

Everything is drawn on the CPU in float32, whatever torch's default device and dtype are, from generators of its own: the
global random state is neither read nor moved.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from muxwrap._util.meta import draws_nothing

Seed: TypeAlias = int | torch.Generator
"""A seed, or a generator where several draws follow each other."""

EXACT = 1e-5  # entries of XᵀX of a matrix that counts as orthogonal are so near to the identity's


def generator(seed: Seed) -> torch.Generator:
    """Return a fresh CPU generator at ``seed``; a generator is returned as it is."""
    return seed if isinstance(seed, torch.Generator) else torch.Generator("cpu").manual_seed(seed)


def normal(seed: Seed, *shape: int) -> Tensor:
    """Draw independent standard normal numbers."""
    return torch.randn(*shape, generator=generator(seed), device="cpu", dtype=torch.float32)


def gaussian(seed: Seed, n: int, dim: int, norm: float | None = None) -> Tensor:
    """Draw ``[n, dim]`` normal vectors, rescaled to one norm, by default √dim (DataMUX, section 3.1)."""
    keys = normal(seed, n, dim)
    return keys * ((math.sqrt(dim) if norm is None else norm) / keys.norm(dim=1, keepdim=True))


def signs(seed: Seed, n: int, dim: int) -> Tensor:
    """Draw ``[n, dim]`` numbers +1 or -1 evenly (Rademacher)."""
    bits = torch.randint(2, (n, dim), generator=generator(seed), device="cpu")
    return (2 * bits - 1).to(torch.float32)


def rotations(seed: Seed, n: int, dim: int) -> Tensor:
    """Draw ``[n, dim, dim]`` orthogonal matrices from the Haar measure; without values where they would not be kept."""
    if draws_nothing():
        return torch.empty(n, dim, dim, device="meta", dtype=torch.float32)
    drawn_from = generator(seed)
    matrices = torch.empty(n, dim, dim, device="cpu", dtype=torch.float32)  # orthogonal_ refuses half precision
    for matrix in matrices:
        nn.init.orthogonal_(matrix, generator=drawn_from)
    return matrices


def nearest_rotations(matrices: Tensor, iterations: int = 6) -> Tensor:
    """Return the orthogonal matrices nearest to ``[n, dim, dim]``, U Vᵀ of U S Vᵀ, by products of matrices alone.

    Newton-Schulz, X <- (3 X - X XᵀX) / 2 (Björck and Bowie 1971), which converges for norms below √3. Here they are at most 1,
    since X is divided by a bound first, so that singular values only ever come closer to 1. What an optimizer makes of
    orthogonal matrices in one step is exact after the iterations here; what is further away comes closer. Matrices that are
    orthogonal already come back as they are, to the bit.
    """
    with torch.autocast(matrices.device.type, enabled=False):
        x = matrices.detach().to(torch.promote_types(matrices.dtype, torch.float32))
        squares = x.mT @ x
        exact = (squares - torch.eye(x.shape[-1], device=x.device)).abs().amax((-2, -1)) < EXACT
        x = x / squares.abs().sum(-1).amax(-1).sqrt()[:, None, None]
        for _ in range(iterations):
            x = 1.5 * x - 0.5 * (x @ (x.mT @ x))
    return torch.where(exact[:, None, None], matrices, x.to(matrices.dtype))


def permutations(seed: Seed, n: int, dim: int) -> Tensor:
    """Draw n random orders of dim coordinates, int64 ``[n, dim]``."""
    drawn_from = generator(seed)
    return torch.stack([torch.randperm(dim, generator=drawn_from, device="cpu") for _ in range(n)])


def per_index(keys: Tensor, x: Tensor) -> Tensor:
    """View keys ``[n, dim]`` so that they broadcast over ``x`` ``[g, n, ..., dim]``, in the dtype of ``x``."""
    return keys.to(x.dtype).view(keys.shape[0], *[1] * (x.ndim - 3), keys.shape[1])


def divisors(keys: Tensor, x: Tensor) -> Tensor:
    """Return the same to divide by: a key that is zero in the dtype of ``x``, or subnormal, is its smallest normal number."""
    viewed = per_index(keys, x)
    least = viewed.new_full((), torch.finfo(viewed.dtype).tiny)
    return torch.where(viewed.abs() < least, torch.copysign(least, viewed), viewed)
