"""How far apart two answers are, and whether that can be rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from muxwrap._util.meta import is_meta


def distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest value; infinity between tensors of different shapes.

    Of tensors without values, shapes are all that can be compared.
    """
    if a.shape != b.shape or not a.numel() or is_meta(a):
        return 0.0 if a.shape == b.shape else math.inf
    # A backbone may ask for gradients itself, whoever calls it without, and answer in sparse tensors.
    a, b = (x.detach().to_dense() for x in (a, b))
    largest = float(a.abs().max())
    return float((a - b).abs().max()) / largest if largest else float(b.abs().max())


class Rounding:
    """The error of products, measured once per device."""

    def __init__(self) -> None:
        self._errors: dict[torch.device, float] = {}

    def coarse(self, like: Tensor) -> bool:
        """Whether products are rounded as in half precision: an accelerator may do so with float32 (TensorFloat-32)."""
        if like.dtype in (torch.float16, torch.bfloat16):
            return True
        if like.device not in self._errors:
            self._errors[like.device] = _product_error(like)
        return self._errors[like.device] > 1e-5


def _product_error(like: Tensor) -> float:
    """Return how far a matrix product and a convolution are from the exact ones, where and as ``like`` was made."""
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float64)
    left, right = a.to(like), b.to(like)
    made = left @ right, torch.nn.functional.conv2d(right.view(1, 64, 64, 1), left.view(64, 64, 1, 1)).view(64, 64)
    return max(distance(a @ b, each.detach().to("cpu", torch.float64)) for each in made)
