"""A small convolutional net for every index."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import check_dim
from muxwrap.strategies.base import registry
from muxwrap.strategies.images.spatial import Spatial, per_index_conv


@registry.register("nonlinear")
class Nonlinear(Spatial):
    """φ_i(x) = B_i * ReLU(A_i * x + a_i), two convolutions 3x3 of its own for every index (DataMUX's notebook).

    The image keeps its size and its channels. Not linear, and without a way back.
    Cost: 9·hidden·(dim + channels) multiplications a pixel of every instance.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        hidden: channels between the two convolutions; 16 in the notebook.
        learnable: train the nets (the default here).
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the nets at the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``hidden`` or ``scale``.
    """

    first: Tensor
    second: Tensor
    offsets: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        hidden: int = 16,
        learnable: bool = True,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.hidden = check_dim(hidden)
        self._draw()

    def _draw(self) -> None:
        """Draw both layers with He's variance for the ReLU between them."""
        generator = self.generator()
        shapes = {"first": (self.hidden, self.dim, 3, 3), "second": (self.width, self.hidden, 3, 3)}
        for name, shape in shapes.items():
            noise = torch.randn(self.n, *shape, generator=generator, device="cpu", dtype=torch.float32)
            self.set_filters(name, noise * (2 / (9 * shape[1])) ** 0.5)
        self.set_keys("offsets", torch.zeros(self.n, self.hidden, device="cpu", dtype=torch.float32))

    def bind(self, x: Tensor) -> Tensor:
        """Run net i on instance i: ``[g, n, dim, H, W] -> [g, n, width, H, W]``."""
        inner = self._inner(x).unflatten(1, (self.n, self.hidden))
        return per_index_conv(inner, self.filters("second", self.n), padding=1).unflatten(1, (self.n, self.width))

    def mix(self, x: Tensor) -> Tensor:
        """Run the second layers of all nets as one convolution, which sums them."""
        weights = self.filters("second", self.n).to(x.dtype).transpose(0, 1).flatten(1, 2)
        return F.conv2d(self._inner(x), weights * self.factor, padding=1)

    def _inner(self, x: Tensor) -> Tensor:
        offsets = self.offsets.to(x.dtype).flatten()
        return F.relu(per_index_conv(x, self.filters("first", self.n), offsets, padding=1))


@registry.register("nonlinear_expand")
class NonlinearExpand(Nonlinear):
    """``nonlinear`` to a mixture of more channels than the images have (DataMUX's notebook: 1 to 16 to 8).

    The stem is widened to read them.
    Cost: 9·hidden·(dim + channels) multiplications a pixel of every instance, and the wider stem.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        channels: channels of the mixture.
        hidden: channels between the two convolutions.
        learnable: train the nets (the default here).
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the nets at the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``channels``, ``hidden`` or ``scale``.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        channels: int = 8,
        hidden: int = 16,
        learnable: bool = True,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        self.channels = check_dim(channels)  # read by the base class, which draws the nets
        super().__init__(n, dim, hidden=hidden, learnable=learnable, scale=scale, seed=seed)

    @property
    def width(self) -> int:
        """Channels of the mixture."""
        return self.channels
