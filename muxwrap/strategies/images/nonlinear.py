"""A small convolutional net for every index."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from muxwrap.errors import check_dim
from muxwrap.site import Sees
from muxwrap.strategies import keys
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.images._convolution import as_filters, as_weight, per_index_conv


@registry.register("nonlinear")
class Nonlinear(Strategy):
    """φ_i(x) = B_i * ReLU(A_i * x + a_i), two convolutions 3x3 of its own for every index (DataMUX's notebook).

    The image keeps its size, and its channels unless ``channels`` gives it more (the notebook's net from 1 to 16 to 8
    channels). Not linear, and without a way back.
    Cost: 9·hidden·(dim + channels) multiplications per pixel of every instance, and the wider stem.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        channels: channels of the mixture, dim by default; with others the stem is widened.
        hidden: channels between the two convolutions; 16 in the notebook.
        learnable: train the nets (the default here).
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the nets at the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``channels``, ``hidden`` or ``scale``.
    """

    sees: ClassVar[Sees] = "image"
    first: Tensor
    second: Tensor
    offsets: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        channels: int | None = None,
        hidden: int = 16,
        learnable: bool = True,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.channels = channels if channels is None else check_dim(channels)
        self.width = dim if channels is None else channels
        self.hidden = check_dim(hidden)
        rng = keys.generator(seed)
        for name, before, after in (("first", dim, hidden), ("second", hidden, self.width)):
            noise = keys.normal(rng, n, after, before, 3, 3)
            self.set_keys(name, as_weight(noise * (2 / (9 * before)) ** 0.5))  # He's variance, for the ReLU
        self.set_keys("offsets", torch.zeros(n, hidden, device="cpu", dtype=torch.float32))

    def bind(self, x: Tensor) -> Tensor:
        """Run net i on instance i: ``[g, n, dim, H, W] -> [g, n, width, H, W]``."""
        return per_index_conv(self._inner(x), as_filters(self.second, self.n), padding=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Run the second layers of all nets as one convolution, which sums them."""
        weights = rearrange(self.second.to(x.dtype), "(n out) c h w -> out (n c) h w", n=self.n)
        inner = rearrange(self._inner(x), "g n c h w -> g (n c) h w")
        return F.conv2d(inner, weights * self.factor, padding=1)

    def _inner(self, x: Tensor) -> Tensor:
        """Run the first layers: ``[g, n, dim, H, W] -> [g, n, hidden, H, W]``."""
        offsets = self.offsets.to(x.dtype).flatten()
        return F.relu(per_index_conv(x, as_filters(self.first, self.n), offsets, padding=1))
