"""Instances side by side on the feature axis, each with coordinates of its own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.sizes import fixed


def at_coordinate(features: Tensor, start: int, dim: int) -> Tensor:
    """Set features into ``dim`` features from coordinate ``start`` on, zeros around them."""
    (size,) = fixed(features.shape[-1:])
    return features if size == dim else F.pad(features, (start, dim - start - size))
