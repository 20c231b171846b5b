"""A random rotation of the feature axis for every index."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense
from muxwrap.strategies.keys import rotations


@registry.register("orthogonal")
class Orthogonal(Strategy):
    """φ_i(x) = x O_i with O_i a random orthogonal dim x dim matrix, Haar distributed (DataMUX, section 3.1, "Ortho").

    Rows are tokens. The transpose undoes it as long as the keys are fixed; learned keys are not held orthogonal (as
    published), and ``unbind`` is then only the adjoint.
    Cost: dim² multiplications per instance and position and n·dim² numbers in the keys: 28 % of a 12-layer trunk at n=40,
    where ``sign``, ``permutation``, ``walsh`` and ``circular``, orthogonal as well, cost next to nothing.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        learnable: train the keys.
        scale: see :class:`~muxwrap.strategies.Strategy`; the published code uses ``"sqrt"``.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or a ``dim`` above the limit for dense matrices.
    """

    invertible = True
    isometric = True
    additive = True
    keys: Tensor

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("orthogonal", dim)
        self.invertible = not learnable
        self.set_keys("keys", rotations(seed, n, dim))

    def bind(self, x: Tensor) -> Tensor:
        """Multiply instance i by O_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return torch.einsum("gn...d,nde->gn...e", x, self.keys.to(x.dtype))

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply entry i by O_iᵀ: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return torch.einsum("gn...e,nde->gn...d", z, self.keys.to(z.dtype))

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Sum over instances inside one product ``[.., n·dim] x [n·dim, dim]``, so that no bound copy is held."""
        return torch.einsum("gn...d,nde->g...e", x, self.keys[start : start + x.shape[1]].to(x.dtype)) * self.factor
