"""torchvision: every classification model below 150 million parameters."""

from __future__ import annotations

import warnings
from functools import partial

import torchvision
from torch import nn

from benchmarks.zoo.catalogue import Entry

LARGE = ("convnext_large", "regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32")  # 150 million parameters and more


def entries() -> list[Entry]:
    """Return one entry per model."""
    names = torchvision.models.list_models(module=torchvision.models)
    return [Entry("torchvision", name, partial(_build, name)) for name in names if name not in LARGE]


def _build(name: str) -> tuple[nn.Module, None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet and Inception warn about their initial weights
        return torchvision.models.get_model(name, weights=None), None
