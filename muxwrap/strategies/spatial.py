"""What the strategies share that see a whole image, and not one position at a time."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.layout import Sees
from muxwrap.strategies.base import Strategy


class Spatial(Strategy):
    """φ_i acts on images ``[dim, H, W]``: ``[g, n, dim, H, W] -> [g, width, H, W]``. Not a strategy by itself.

    Raw images and feature maps alike; channels are moved to the front where a backbone has them last. A subclass that
    needs H and W names ``size`` in its constructor, and is told. One that makes mixtures of other than dim channels
    overrides :attr:`~muxwrap.strategies.Strategy.width`. There is an :meth:`unbind` only where a subclass has one.
    """

    sees: ClassVar[Sees] = "image"

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
