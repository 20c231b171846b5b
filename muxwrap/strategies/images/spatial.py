"""What the strategies share that see a whole image, and not one position at a time."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy


class Spatial(Strategy):
    """φ_i acts on images ``[dim, H, W]``: ``[g, n, dim, H, W] -> [g, width, H, W]``. Not a strategy by itself.

    Raw images and feature maps alike; channels are moved to the front where a backbone has them last. A subclass that
    needs H and W names ``size`` in its constructor, and is told. One that makes mixtures of other than dim channels
    overrides :attr:`~muxwrap.strategies.Strategy.width`. There is an :meth:`unbind` only where a subclass has one.
    """

    sees: ClassVar[Sees] = "image"

    def set_filters(self, name: str, value: Tensor) -> None:
        """Keep convolutions ``[count, C', C, kh, kw]`` as one weight, for ``model.to(memory_format=torch.channels_last)``."""
        self.set_keys(name, value.flatten(0, 1))

    def filters(self, name: str, count: int) -> Tensor:
        """Return what :meth:`set_filters` kept, ``[count, C', C, kh, kw]``."""
        weight: Tensor = getattr(self, name)
        return weight.unflatten(0, (count, -1))

    def unbind(self, z: Tensor) -> Tensor:
        """Refuse: a network, a resampling and the like have no way back.

        Raises:
            MuxwrapError: always; a subclass with a way back overrides this.
        """
        raise MuxwrapError(f"{type(self).__name__} has no unbind; take a demuxer that learns, such as 'mlp'")

    def fits(self, dim: int) -> bool:
        """Never: what a trunk makes of a mixture for its head is no image of the same size."""
        return False


def check_size(name: str, size: object) -> tuple[int, int]:
    """Return height and width, or refuse what is none.

    Raises:
        MuxwrapError: ``size`` is not two ints of 1 or more.
    """
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise MuxwrapError(f"{name}(size={size!r}): give the height and width of the images, such as size=(28, 28)")
    return size[0], size[1]


def per_index_conv(
    x: Tensor, kernels: Tensor, offsets: Tensor | None = None, *, stride: tuple[int, int] = (1, 1), padding: int = 0
) -> Tensor:
    """Convolve instance i of ``[g, n, C, H, W]`` with ``kernels[i]`` ``[C', C, kh, kw]`` to ``[g, n·C', H', W']``."""
    weights = kernels.to(x.dtype).flatten(0, 1)
    return F.conv2d(x.flatten(1, 2), weights, offsets, stride=stride, padding=padding, groups=x.shape[1])
