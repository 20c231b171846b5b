"""The demo's network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, BLOCKS = 128, 3  # bare and three multiplexed ones train in under five minutes on two cores


class Block(nn.Module):
    """Two convolutions beside an identity; it starts as the identity, so that separate instances stay separate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[rows, width, side, side]``, as it comes in."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Net(nn.Module):
    """A small residual network: one convolution as the stem, blocks of one width, mean, classifier.

    Args:
        side: of an image, in pixels.
        width: channels.
        blocks: residual blocks.
        classes: of the images.
    """

    def __init__(self, side: int, width: int = WIDTH, blocks: int = BLOCKS, classes: int = 10) -> None:
        super().__init__()
        # A wide view, as in ResNet: what an instance keeps in the mixture is computed from this layer alone.
        self.stem = nn.Conv2d(1, width, 7, stride=max(2, side // 7), padding=3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[rows, classes]`` for images ``[rows, 1, side, side]``."""
        out: Tensor = self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))
        return out
