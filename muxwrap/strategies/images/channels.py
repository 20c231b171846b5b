"""Images stacked on the channel axis."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import refuse_learning


@registry.register("channels")
class Channels(Strategy):
    """φ_i(x) = x as channels i·dim to (i+1)·dim of n·dim (MIMO, Havasi et al., ICLR 2021).

    Nothing is lost in the mixture; what has to tell the instances apart is the stem, which is widened to read n·dim
    channels, and that is what learns. ``unbind`` takes an instance's channels out again, exactly.
    Cost: none but the wider stem's: n·dim channels in a convolution per *mixture*.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        learnable: refused.
        scale: ``"sum"`` by default, since channels of their own do not add up.
        seed: fixes the new weights of the stem.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or ``learnable=True``.
    """

    sees: ClassVar[Sees] = "image"
    invertible = True
    isometric = True
    disjoint = True

    def __init__(self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sum", seed: int = 0) -> None:
        refuse_learning("channels", learnable, "the widened stem learns, and it has no keys")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.width = n * dim

    def bind(self, x: Tensor) -> Tensor:
        """Put instance i into its channels, zeros elsewhere: ``[g, n, dim, H, W] -> [g, n, n·dim, H, W]``."""
        bound = [F.pad(x[:, i], (0, 0, 0, 0, i * self.dim, (self.n - 1 - i) * self.dim)) for i in range(self.n)]
        return torch.stack(bound, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Take the channels of entry i: ``[g, n, n·dim, H, W] -> [g, n, dim, H, W]``."""
        own = z.split(self.dim, dim=2)
        return torch.stack([channels[:, i] for i, channels in enumerate(own)], dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Stack the images, which copies nothing but them."""
        return rearrange(x, "g n c h w -> g (n c) h w") * self.factor
