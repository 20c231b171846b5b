"""Random projections whose images do not meet."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_room
from muxwrap.strategies.keys import rotations


@registry.register("low_rank")
class LowRank(Strategy):
    """φ_i(x) = G_i x with G_i = U D_i Hᵀ of rank r = dim // n (MUX-PLM's code, low-rank orthogonal).

    U and H are random orthogonal matrices and D_i picks the i-th run of r coordinates, so that G_iᵀG_j = G_iG_jᵀ = 0
    for i ≠ j: instances do not disturb each other, but each keeps only the r coordinates of H that are its own, about
    1/n of its energy. dim - n·r coordinates stay unused. ``unbind`` is the adjoint G_iᵀ, which recovers those.
    Cost: 2·dim·r multiplications per instance and position, so about 2·dim² per mixed token; 2·dim² numbers in the keys.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        learnable: train the two factors of every G_i, without constraint.
        scale: see :class:`~muxwrap.strategies.Strategy`; the published code uses ``"sqrt"``.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, n > dim, or a ``dim`` above the limit for dense matrices.
    """

    disjoint = True
    additive = True
    left: Tensor
    right: Tensor

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("low_rank", dim)
        check_room("low_rank", n, dim)
        rank = dim // n
        left, right = rearrange(rotations(seed, 2, dim)[..., : n * rank], "two dim (n r) -> two n dim r", n=n)
        self.set_keys("left", left.clone())  # [n, dim, r], U_i; cloned so that the two do not share memory
        self.set_keys("right", right.clone())  # [n, dim, r], H_i

    def bind(self, x: Tensor) -> Tensor:
        """Multiply instance i by G_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return torch.einsum("gn...r,ndr->gn...d", self._keep(x), self.left.to(x.dtype))

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply entry i by G_iᵀ: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        own = torch.einsum("gn...d,ndr->gn...r", z, self.left.to(z.dtype))
        return torch.einsum("gn...r,ndr->gn...d", own, self.right.to(z.dtype))

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Sum over instances inside the second product: the intermediate has n·r ≤ dim numbers per position."""
        left = self.left[start : start + x.shape[1]].to(x.dtype)
        return torch.einsum("gn...r,ndr->g...d", self._keep(x, start) * self.factor, left)

    def _keep(self, x: Tensor, start: int = 0) -> Tensor:
        """Take the r coordinates H_iᵀx that instance i keeps: ``[g, n, ..., dim] -> [g, n, ..., r]``."""
        return torch.einsum("gn...d,ndr->gn...r", x, self.right[start : start + x.shape[1]].to(x.dtype))
