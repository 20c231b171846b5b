"""Every image shrunk into a cell of the mixture."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import refuse_learning
from muxwrap.strategies.images._grid import cells, row_counts, side_by_side
from muxwrap.strategies.resampling import area, resize


@registry.register("remap")
class Remap(Strategy):
    """φ_i(x) = x shrunk by area interpolation into the i-th cell of a grid (DataMUX's notebook).

    The cells have the same area, for any n: rows are as high as they have cells. Nothing is drawn and nothing learned;
    ``layout`` starts from the same picture and learns. ``unbind`` is the adjoint.
    Cost: h·w·H + h·W·H multiplications per instance and channel for a cell of h x w.

    Args:
        n: instances in a mixture.
        dim: channels.
        learnable: refused.
        scale: ``"sum"`` by default, since cells do not add up.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, ``learnable=True``, or (at the first mixture) an image with
            fewer pixels than cells.
    """

    sees: ClassVar[Sees] = "image"
    disjoint = True

    def __init__(self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sum", seed: int = 0) -> None:
        refuse_learning("remap", learnable, "it has no keys")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.counts = row_counts(n)

    def bind(self, x: Tensor) -> Tensor:
        """Shrink instance i into cell i, zeros elsewhere: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        size = fixed(x.shape[-2:])
        places = enumerate(cells(self.counts, *size))
        bound = [cell.embed(resize(x[:, i], cell.height, cell.width), *size) for i, cell in places]
        return torch.stack(bound, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Spread cell i of entry i over the image (the adjoint): ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        height, width = fixed(z.shape[-2:])
        spread = []
        for i, (top, left, h, w) in enumerate(cells(self.counts, height, width)):
            cell = z[:, i, :, top : top + h, left : left + w]
            spread.append(area(h, height, z).T @ cell @ area(w, width, z))
        return torch.stack(spread, dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Put the shrunk images side by side; nothing larger than one mixture is held."""
        places = enumerate(cells(self.counts, *fixed(x.shape[-2:])))
        shrunk = [resize(x[:, i], cell.height, cell.width) for i, cell in places]
        return side_by_side(shrunk, self.counts) * self.factor
