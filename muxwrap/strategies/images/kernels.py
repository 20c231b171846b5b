"""A small filter for every index."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from muxwrap.errors import MuxwrapError, known_names
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.keys import normal

KINDS = ("gaussian", "graded")


@registry.register("kernels")
class Kernels(Strategy):
    """φ_i(x) = k_i * x, every channel filtered with a 3x3 kernel of index i (DataMUX's notebook).

    ``unbind`` is the adjoint, a correlation with the same kernels.
    Cost: 9 multiplications per number of every instance.

    Args:
        n: instances in a mixture.
        dim: channels.
        kind: ``"gaussian"``: independent normal weights of variance 1/9, a kernel for every channel, which keeps the
            energy of an image on average. ``"graded"``: from the image itself at index 0 to the mean over 3x3 pixels at
            index n-1, in equal steps.
        learnable: train the kernels.
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the kernels of ``"gaussian"``.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``scale`` or ``kind``.
    """

    sees: ClassVar[Sees] = "image"
    keys: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        kind: str = "gaussian",
        learnable: bool = False,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        if kind not in KINDS:
            raise MuxwrapError(f"kernels(kind={kind!r}) is unknown; {known_names(kind, KINDS)}")
        self.kind = kind
        self.set_keys("keys", normal(seed, n, dim, 3, 3) / 3 if kind == "gaussian" else _graded(n, dim))

    def bind(self, x: Tensor) -> Tensor:
        """Filter instance i with k_i: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        return self._filter(F.conv2d, x)

    def unbind(self, z: Tensor) -> Tensor:
        """Apply the adjoint to entry i: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        return self._filter(F.conv_transpose2d, z)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Filter and add in one convolution that runs over the instances of each channel."""
        weights = rearrange(self.keys.to(x.dtype), "n c h w -> c n h w") * self.factor
        return F.conv2d(rearrange(x, "g n c h w -> g (c n) h w"), weights, padding=1, groups=self.dim)

    def _filter(self, convolve: Callable[..., Tensor], x: Tensor) -> Tensor:
        weights = rearrange(self.keys.to(x.dtype), "n c h w -> (n c) 1 h w")
        channels = rearrange(x, "g n c h w -> g (n c) h w")
        filtered: Tensor = convolve(channels, weights, padding=1, groups=self.n * self.dim)
        return rearrange(filtered, "g (n c) h w -> g n c h w", n=self.n)


def _graded(n: int, dim: int) -> Tensor:
    steps = torch.linspace(0, 1, n, device="cpu", dtype=torch.float32).view(n, 1, 1)
    itself = torch.zeros(3, 3, device="cpu", dtype=torch.float32)
    itself[1, 1] = 1
    kernels = (1 - steps) * itself + steps / 9
    return kernels.unsqueeze(1).repeat(1, dim, 1, 1)
