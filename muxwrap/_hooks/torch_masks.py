"""The masks of ``torch.nn.TransformerEncoderLayer``, where True is what is left out, as other layers take them, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME, PADDING = "src_mask", "src_key_padding_mask"


def heads_of(layer: nn.Module) -> int:
    """Return how many heads the attention of such a layer has."""
    heads: Any = layer.get_submodule("self_attn").num_heads
    return int(heads)


def to_pairs(mask: Tensor, layer: nn.Module) -> Tensor:
    """Return a mask ``[L, L]`` or ``[B·heads, L, L]`` as ``[1 or B, 1 or heads, L, L]``, True for what is seen."""
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (-1, heads_of(layer)))


def to_heads(mask: Tensor, layer: nn.Module) -> Tensor:
    """Return scores ``[g, 1 or heads, M, M]`` as ``[g·heads, M, M]``."""
    return mask.expand(-1, heads_of(layer), -1, -1).flatten(0, 1)


def real(padding: Tensor) -> Tensor:
    """Return what is not padding, ``[B, L]``."""
    return ~padding if padding.dtype == torch.bool else padding > -1e3
