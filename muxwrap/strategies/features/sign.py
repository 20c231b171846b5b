"""Elementwise product with random signs: the cheapest φ that keeps norms."""

from __future__ import annotations

import torch

from muxwrap.strategies.base import registry
from muxwrap.strategies.features.elementwise import Elementwise


@registry.register("sign")
class Sign(Elementwise):
    """φ_i(x) = x ⊙ s_i with s_i ∈ {-1, +1}^dim drawn evenly (Rademacher; MIMONets' keys for attention).

    Orthogonal at the price of ``hadamard``, and without the Gaussian keys' self-noise: a matched filter on the sum sees
    a signal-to-noise ratio of 1/(n-1) a coordinate instead of 1/(n+1). Learned signs become real numbers.
    Cost: dim multiplications an instance and position.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        learnable: train the keys.
        scale: see :class:`~muxwrap.strategies.Strategy`.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``.
    """

    invertible = True
    norm_preserving = True

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.set_keys("keys", random_signs(n, dim, self.generator()))


def random_signs(n: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``[n, dim]`` signs as float32."""
    bits = torch.randint(2, (n, dim), generator=generator, device="cpu")
    return (2 * bits - 1).to(torch.float32)
