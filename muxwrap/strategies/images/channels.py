"""Images stacked on the channel axis."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, stack

from muxwrap.strategies.base import registry
from muxwrap.strategies.checks import refuse_learning
from muxwrap.strategies.images.spatial import Spatial


@registry.register("channels")
class Channels(Spatial):
    """φ_i(x) = x as block i of n·dim channels (MIMO, Havasi et al., ICLR 2021).

    Nothing is lost in the mixture; what has to tell the instances apart is the stem, which is widened to read n·dim
    channels, and that is what learns. ``unbind`` takes block i out again, exactly.
    Cost: none but the wider stem's: n·dim channels in a convolution *a mixture*.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        learnable: refused.
        scale: ``"sum"`` by default, since blocks do not add up.
        seed: fixes the new weights of the stem.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or ``learnable=True``.
    """

    invertible = True
    norm_preserving = True
    disjoint = True

    def __init__(self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sum", seed: int = 0) -> None:
        refuse_learning("channels", learnable, "the widened stem learns, and it has no keys")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)

    @property
    def width(self) -> int:
        """n·dim channels."""
        return self.n * self.dim

    def bind(self, x: Tensor) -> Tensor:
        """Put instance i into block i, zeros elsewhere: ``[g, n, dim, H, W] -> [g, n, n·dim, H, W]``."""
        blocks = [F.pad(x[:, i], (0, 0, 0, 0, i * self.dim, (self.n - 1 - i) * self.dim)) for i in range(self.n)]
        return stack(blocks, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Take block i of entry i: ``[g, n, n·dim, H, W] -> [g, n, dim, H, W]``."""
        blocks = z.split(self.dim, dim=2)
        return stack([block[:, i] for i, block in enumerate(blocks)], dim=1)

    def mix(self, x: Tensor) -> Tensor:
        """Stack the images, which copies nothing but them."""
        return x.flatten(1, 2) * self.factor
