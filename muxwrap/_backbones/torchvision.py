"""torchvision: a model does not say its name, so those of its class are tried; the number of classes is its last layer's."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from muxwrap._util.classes import class_of

EXTRA = "vision"


def candidates(backbone: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the names of the classifiers of the model's class."""
    cls = class_of(backbone)
    if not cls.__module__.startswith("torchvision.models."):
        return
    from torchvision.models import get_model_builder

    for name in _names():
        made = inspect.signature(get_model_builder(name)).return_annotation
        if cls in (made, inspect.getmodule(cls).__dict__.get(made) if isinstance(made, str) else None):
            yield {"name": name, "classes": _classes(backbone)}


def stored(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what of a recipe goes into ``muxwrap.json``: all of it."""
    return recipe


def read(recipe: dict[str, Any], config: bytes | None) -> dict[str, Any]:
    """Return a stored recipe as it is."""
    return recipe


def make(recipe: dict[str, Any]) -> nn.Module:
    """Make the model, with random weights."""
    from torchvision.models import get_model

    if recipe["name"] not in _names():
        raise ValueError(f"{recipe['name']!r} is not a classifier of torchvision")
    options = {"init_weights": False} if recipe["name"] in ("googlenet", "inception_v3") else {}  # they warn otherwise
    made: nn.Module = get_model(recipe["name"], weights=None, num_classes=recipe["classes"], **options)
    return made


def _names() -> list[str]:
    """Return the names of the classifiers, none of which downloads anything by itself."""
    import torchvision.models

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _classes(backbone: nn.Module) -> int | None:
    heads = [
        m.out_features if isinstance(m, nn.Linear) else m.out_channels
        for m in backbone.modules()
        if isinstance(m, (nn.Linear, nn.Conv2d))
    ]
    return heads[-1] if heads else None
