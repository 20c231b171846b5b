"""No binding at all: the negative control."""

from __future__ import annotations

from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import refuse_learning


@registry.register("identity")
class Identity(Strategy):
    """φ_i(x) = x: the instances are only added up.

    A mixture then shows which instances are in it but not in which order, so that retrieving index i succeeds about once
    in n times. Every other strategy has to beat it; at n=1 it leaves the model as it is.
    Cost: the sum.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        learnable: refused, there are no keys.
        scale: see :class:`~muxwrap.strategies.Strategy`.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or ``learnable=True``.
    """

    invertible = True
    isometric = True
    additive = True

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        refuse_learning("identity", learnable, "it has no keys")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)

    def bind(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def unbind(self, z: Tensor) -> Tensor:
        """Return ``z``."""
        return z
