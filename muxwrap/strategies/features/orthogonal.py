"""A random rotation of the feature axis for every index."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense
from muxwrap.strategies.keys import nearest_rotations, rotations


@registry.register("orthogonal")
class Orthogonal(Strategy):
    """φ_i(x) = x O_i with O_i a random orthogonal dim x dim matrix, Haar distributed (DataMUX, section 3.1, "Ortho").

    Rows are tokens. The transpose undoes it as long as the keys are fixed or held. Learned keys that are not held (as
    published) do not stay orthogonal, and ``unbind`` is then only the adjoint.

    With ``identity_first`` the first instance is not turned at all, which keeps a trained trunk alive: at the start it
    reads that instance as it always has, the others as noise. Fine-tuned from there, keys that learn find directions in
    which the trunk tells the others apart.

    Cost: dim² multiplications per instance and position and n·dim² numbers in the keys: 28 % of a 12-layer trunk at n=40,
    where ``sign``, ``permutation``, ``walsh`` and ``circular``, orthogonal as well, cost next to nothing.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        learnable: train the keys.
        held: hold keys that are trained orthogonal: whatever the optimizer made of them is replaced by the nearest orthogonal
            matrices, before the next mixture in training and in ``eval()``. In evaluation it costs nothing.
        identity_first: O_0 is the identity at the start.
        scale: see :class:`~muxwrap.strategies.Strategy`; the published code uses ``"sqrt"``.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, a ``dim`` above the limit for dense matrices, or keys that are to be
            held and do not learn.
    """

    invertible = True
    isometric = True
    additive = True
    keys: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        learnable: bool = False,
        held: bool = False,
        identity_first: bool = False,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("orthogonal", dim)
        if held and not learnable:
            raise MuxwrapError(
                "orthogonal(held=True): keys that are fixed stay orthogonal; give learnable=True as well"
            )
        self.held = held
        self.identity_first = identity_first
        self.invertible = self.isometric = held or not learnable
        keys = rotations(seed, n, dim)
        if identity_first:
            keys[0] = torch.eye(dim, device="cpu")
        self.set_keys("keys", keys)
        self._held_at = -1

    def bind(self, x: Tensor) -> Tensor:
        """Multiply instance i by O_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        self._hold()
        return torch.einsum("gn...d,nde->gn...e", x, self.keys.to(x.dtype))

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply entry i by O_iᵀ: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        self._hold()
        return torch.einsum("gn...e,nde->gn...d", z, self.keys.to(z.dtype))

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Sum over instances inside one product ``[.., n·dim] x [n·dim, dim]``, so that no bound copy is held."""
        self._hold()
        scaled = x * self.factor  # before the product, which may be beyond what half precision holds
        return torch.einsum("gn...d,nde->g...e", scaled, self.keys[start : start + x.shape[1]].to(x.dtype))

    def train(self, mode: bool = True) -> Any:
        """Set the mode; keys that are held are orthogonal in evaluation."""
        if not mode:
            self._hold()
        return super().train(mode)

    @torch.no_grad()
    def _hold(self) -> None:
        """Replace held keys by the nearest orthogonal matrices if they have changed since, in training.

        Keys that have not changed are left alone: a second pass, or backward that runs the first one again, finds the same.
        """
        if not (self.held and self.training):
            return
        if torch.compiler.is_compiling():  # where it cannot be asked
            self.keys.copy_(nearest_rotations(self.keys))
        elif not self.keys.is_inference() and self.keys._version != self._held_at:
            self.keys.copy_(nearest_rotations(self.keys))
            self._held_at = self.keys._version
