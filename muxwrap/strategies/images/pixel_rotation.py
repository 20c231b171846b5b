"""One matrix over all pixels for every index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_size
from muxwrap.strategies.keys import rotations


@registry.register("pixel_rotation")
class PixelRotation(Strategy):
    """φ_i(x) = R_i x, R_i a random rotation in SO(H·W) of the flattened pixels of every channel (DataMUX's notebook).

    Learned, it is the notebook's matrix over all pixels: the R_i are then free, and ``unbind`` is only the adjoint.
    (``orthogonal`` at raw images rotates all channels' pixels together.)
    Cost: (H·W)² multiplications per instance and channel, and n·(H·W)² numbers in the keys.

    Args:
        n: instances in a mixture.
        dim: channels.
        size: height and width of the images, which :func:`muxwrap.wrap` fills in.
        learnable: train the matrices.
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the matrices.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``size`` or ``scale``, or more pixels than a dense matrix is made for.
    """

    sees: ClassVar[Sees] = "image"
    invertible = True
    isometric = True
    keys: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        size: Sequence[int],
        learnable: bool = False,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.size = check_size("pixel_rotation", size)
        pixels = self.size[0] * self.size[1]
        check_dense("pixel_rotation", pixels)
        self.invertible = not learnable
        turns = rotations(seed, n, pixels)
        turns[:, 0] *= torch.linalg.det(turns).sign()[:, None]  # a reflection becomes a rotation
        self.set_keys("keys", turns)

    def bind(self, x: Tensor) -> Tensor:
        """Multiply the pixels of instance i by R_i: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        turned = torch.einsum("gncp,nqp->gncq", x.flatten(-2), self.keys.to(x.dtype))
        return turned.unflatten(-1, self.size)

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply the pixels of entry i by R_iᵀ: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        turned = torch.einsum("gncq,nqp->gncp", z.flatten(-2), self.keys.to(z.dtype))
        return turned.unflatten(-1, self.size)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Sum over instances inside the product, so that no bound copy is held.

        Raises:
            MuxwrapError: images of another size.
        """
        if fixed(x.shape[-2:]) != self.size:
            raise MuxwrapError(
                f"pixel_rotation(size={self.size}) got images of {tuple(x.shape[-2:])}; resize them, or wrap with an "
                "example_input of their size"
            )
        scaled = x.flatten(-2) * self.factor  # before the product, which may be beyond what half precision holds
        turned = torch.einsum("gncp,nqp->gcq", scaled, self.keys.to(x.dtype))
        return turned.unflatten(-1, self.size)
