"""Random projections whose images do not meet."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_room
from muxwrap.strategies.features.orthogonal import random_rotations


@registry.register("low_rank")
class LowRank(Strategy):
    """φ_i(x) = G_i x with G_i = U D_i Hᵀ of rank r = dim // n (MUX-PLM's code, low-rank orthogonal).

    U and H are random orthogonal matrices and D_i picks the i-th block of r coordinates, so that G_iᵀG_j = G_iG_jᵀ = 0
    for i ≠ j: instances do not disturb each other, but each keeps only the r coordinates of H that are its own, about
    1/n of its energy. dim - n·r coordinates stay unused. ``unbind`` is the adjoint G_iᵀ, which recovers what was kept.
    Cost: 2·dim·r multiplications an instance and position, so about 2·dim² a mixed token; 2·dim² numbers kept.

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
        blocks = random_rotations(2, dim, self.generator())[..., : n * rank].unflatten(-1, (n, rank)).movedim(-2, 1)
        self.set_keys("left", blocks[0].clone())  # [n, dim, r], U_i; cloned so that the two do not share memory
        self.set_keys("right", blocks[1].clone())  # [n, dim, r], H_i

    def bind(self, x: Tensor) -> Tensor:
        """Multiply instance i by G_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return torch.einsum("gn...r,ndr->gn...d", self._keep(x), self.left.to(x.dtype))

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply entry i by G_iᵀ: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        kept = torch.einsum("gn...d,ndr->gn...r", z, self.left.to(z.dtype))
        return torch.einsum("gn...r,ndr->gn...d", kept, self.right.to(z.dtype))

    def part(self, x: Tensor, start: int) -> Tensor:
        """Sum over instances inside the second product: the intermediate is n·r ≤ dim wide a position."""
        return (
            torch.einsum("gn...r,ndr->g...d", self._keep(x, start), self.left[start : start + x.shape[1]].to(x.dtype))
            * self.factor
        )

    def _keep(self, x: Tensor, start: int = 0) -> Tensor:
        """Take the r coordinates H_iᵀx that instance i keeps: ``[g, n, ..., dim] -> [g, n, ..., r]``."""
        return torch.einsum("gn...d,ndr->gn...r", x, self.right[start : start + x.shape[1]].to(x.dtype))
