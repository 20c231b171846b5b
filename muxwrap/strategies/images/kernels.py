"""A small filter for every index."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import MuxwrapError, known_names
from muxwrap.strategies.base import registry
from muxwrap.strategies.images.spatial import Spatial

KINDS = ("gaussian", "graded")


@registry.register("kernels")
class Kernels(Spatial):
    """φ_i(x) = k_i * x, every channel filtered with a 3x3 kernel of index i (DataMUX's notebook).

    ``unbind`` is the adjoint, a correlation with the same kernels.
    Cost: 9 multiplications a number of every instance.

    Args:
        n: instances in a mixture.
        dim: channels.
        kind: ``"gaussian"``: independent normal weights of variance 1/9, an own kernel for every channel, which keeps the
            energy of an image on average. ``"graded"``: from the image itself at index 0 to the mean over 3x3 pixels at
            index n-1, in equal steps.
        learnable: train the kernels.
        scale: see :class:`~muxwrap.strategies.Strategy`; the notebook uses ``"sum"``.
        seed: fixes the kernels of ``"gaussian"``.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``scale`` or ``kind``.
    """

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
        self.set_keys("keys", self.normal(n, dim, 3, 3) / 3 if kind == "gaussian" else _graded(n, dim))

    def bind(self, x: Tensor) -> Tensor:
        """Filter instance i with k_i: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        return self._filter(F.conv2d, x)

    def unbind(self, z: Tensor) -> Tensor:
        """Apply the adjoint to entry i: ``[g, n, dim, H, W] -> [g, n, dim, H, W]``."""
        return self._filter(F.conv_transpose2d, z)

    def mix(self, x: Tensor) -> Tensor:
        """Filter and add in one convolution that runs over the instances of each channel."""
        weights = self.keys.to(x.dtype).transpose(0, 1) * self.factor
        return F.conv2d(x.transpose(1, 2).flatten(1, 2), weights, padding=1, groups=self.dim)

    def _filter(self, convolve: object, x: Tensor) -> Tensor:
        weights = self.keys.to(x.dtype).flatten(0, 1).unsqueeze(1)
        done: Tensor = convolve(x.flatten(1, 2), weights, padding=1, groups=len(weights))  # type: ignore[operator]
        return done.unflatten(1, (self.n, self.dim))


def _graded(n: int, dim: int) -> Tensor:
    steps = torch.linspace(0, 1, n, device="cpu", dtype=torch.float32).view(n, 1, 1)
    itself = torch.zeros(3, 3, device="cpu", dtype=torch.float32)
    itself[1, 1] = 1
    kernels = (1 - steps) * itself + steps / 9
    return kernels.unsqueeze(1).repeat(1, dim, 1, 1)
