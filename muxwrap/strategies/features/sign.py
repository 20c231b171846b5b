"""Elementwise product with random signs: the cheapest φ that keeps norms."""

from __future__ import annotations

from muxwrap.strategies.base import registry
from muxwrap.strategies.features._elementwise import Elementwise
from muxwrap.strategies.keys import signs


@registry.register("sign")
class Sign(Elementwise):
    """φ_i(x) = x ⊙ s_i with s_i ∈ {-1, +1}^dim drawn evenly (Rademacher; MIMONets' keys for attention).

    Orthogonal at the price of ``hadamard``, and without the Gaussian keys' self-noise: a matched filter on the sum has
    a signal-to-noise ratio of 1/(n-1) per coordinate instead of 1/(n+1). Learned signs become real numbers.
    Cost: dim multiplications per instance and position.

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
    isometric = True

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.set_keys("keys", signs(seed, n, dim))
