"""Elementwise product with Gaussian keys: the strategy of the DataMUX paper."""

from __future__ import annotations

from muxwrap.strategies import keys
from muxwrap.strategies.base import registry
from muxwrap.strategies.checks import check_norm
from muxwrap.strategies.features._elementwise import Elementwise


@registry.register("hadamard")
class Hadamard(Elementwise):
    """φ_i(x) = x ⊙ g_i with g_i ~ N(0, I), rescaled to one norm (DataMUX, section 3.1, "Hadamard").

    The product is elementwise; for the Walsh-Hadamard *transform* see ``walsh``.
    Cost: dim multiplications per instance and position.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        norm: ‖g_i‖₂; by default √dim, so that a bound instance has the variance of the instance. (The published
            warm-up uses 20 and fine-tuning 1 at dim=768.)
        learnable: train the keys.
        scale: see :class:`~muxwrap.strategies.Strategy`; the published code uses ``"mean"``.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or a ``norm`` that is not positive.
    """

    invertible = True

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        norm: float | None = None,
        learnable: bool = False,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.norm = check_norm("hadamard", norm)
        self.set_keys("keys", keys.gaussian(seed, n, dim, norm))
