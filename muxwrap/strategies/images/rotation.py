"""Every image turned by an angle of its own."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import refuse_learning


@registry.register("rotation")
class Rotation(Strategy):
    """φ_i(x) = (-1)^i times the image turned by i·360°/n around its middle (DataMUX's notebook).

    Bilinear, and what is turned out of the frame is lost, so that there is no way back. It computes in float32 or float64.
    Cost: about 8 multiplications per number of every instance.

    Args:
        n: instances in a mixture.
        dim: channels.
        signs: negate every other index.
        learnable: refused.
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or ``learnable=True``.
    """

    sees: ClassVar[Sees] = "image"

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        signs: bool = True,
        learnable: bool = False,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        refuse_learning("rotation", learnable, "its angles are those of the index")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.signs = signs

    def bind(self, x: Tensor) -> Tensor:
        """Turn instance i by i·360°/n: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        return torch.stack([self._turn(x[:, i], i) for i in range(self.n)], dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Accumulate instance by instance, which holds no bound copies."""
        mixture = self._turn(x[:, 0], 0) * self.factor
        for i in range(1, self.n):
            mixture = mixture.add(self._turn(x[:, i], i), alpha=self.factor)
        return mixture

    def _turn(self, image: Tensor, i: int) -> Tensor:
        sign = -1.0 if self.signs and i % 2 else 1.0
        if i == 0:
            return image
        height, width = fixed(image.shape[-2:])
        angle = 2 * math.pi * i / self.n
        cos, sin = math.cos(angle), math.sin(angle)
        # grid_sample counts each axis from -1 to 1, so that a turn has to be undone in the ratio of the sides.
        rows = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
        exact = image.to(torch.promote_types(image.dtype, torch.float32))
        affine = torch.tensor(rows, device=exact.device, dtype=exact.dtype).expand(exact.shape[0], 2, 3)
        grid = F.affine_grid(affine, list(fixed(exact.shape)), align_corners=False)
        return (sign * F.grid_sample(exact, grid, align_corners=False)).to(image.dtype)
