"""The vision transformer of the study, and the plain smaller ones that are its rivals."""

from __future__ import annotations

from typing import NamedTuple

import timm
from torch import nn

DIM, BLOCKS, PATCH = 64, 4, 5
SIZES, AFTER = (1, 2, 4, 8), 2


class Shape(NamedTuple):
    """How large a plain transformer is."""

    dim: int = DIM
    blocks: int = BLOCKS


FULL = Shape()
RIVALS = {
    "3 of 4 blocks": Shape(blocks=3),
    "2 of 4 blocks": Shape(blocks=2),
    "48 of 64 wide": Shape(dim=48),
    "32 of 64 wide": Shape(dim=32),
}


def transformer(side: int, shape: Shape = FULL) -> nn.Module:
    return timm.models.VisionTransformer(
        side, PATCH, 1, 10, embed_dim=shape.dim, depth=shape.blocks, num_heads=4, mlp_ratio=2, class_token=True
    )


def rival(name: str, teacher: nn.Module, side: int) -> nn.Module:
    """Return a plain smaller model: with fewer blocks it starts from the teacher's weights, narrower from random ones."""
    made = transformer(side, RIVALS[name])
    if RIVALS[name].dim == DIM:
        own = made.state_dict()
        made.load_state_dict({key: value for key, value in teacher.state_dict().items() if key in own})
    return made
