"""Rows of few features: a norm over them, and an activation of each, would leave next to nothing of a row.

Of one number a layer norm leaves none, and of two a sign; GELU keeps little of what is negative, and there are no other
features that would tell it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.sizes import fixed

FEWEST = 4
"""With fewer features than these, demuxers are linear."""


def are_few(u: Tensor) -> bool:
    """Whether a tensor ``[..., dim]`` has so few features that they pass as they are."""
    return fixed(u.shape)[-1] < FEWEST


def activated(u: Tensor) -> Tensor:
    """Return GELU of ``[..., dim]``, or few features as they are."""
    return u if are_few(u) else F.gelu(u)


def normed(u: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the layer norm of ``[..., dim]`` with a weight and a bias that go with it; few features get these two alone."""
    if are_few(u):
        return torch.addcmul(bias, u, weight)
    if weight.ndim == 1:
        return F.layer_norm(u, weight.shape, weight, bias, eps)
    return F.layer_norm(u, weight.shape[-1:], eps=eps) * weight + bias
