"""timm: the architecture by its name, and those arguments of ``create_model`` that can be read off a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from muxwrap._util.classes import class_of

EXTRA = "timm"
_ARGUMENTS = ("num_classes", "in_chans", "global_pool", "drop_rate", "img_size")
"""No other argument is passed on: some name files and addresses."""


def candidates(backbone: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the name with more and more arguments: not every architecture takes each of them."""
    metadata: dict[str, Any] = getattr(backbone, "pretrained_cfg", None) or getattr(backbone, "default_cfg", None) or {}
    name, tag = metadata.get("architecture"), metadata.get("tag")
    if not name or not class_of(backbone).__module__.startswith("timm."):
        return
    found = _arguments(backbone)
    for tagged in ([f"{name}.{tag}"] if tag else []) + [name]:  # the tag gives the pixels' mean and deviation
        for count in range(1, len(found) + 1):
            yield {"name": tagged, "arguments": dict(list(found.items())[:count])}


def stored(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what of a recipe goes into ``muxwrap.json``: all of it."""
    return recipe


def read(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stored recipe as it is."""
    return recipe


def make(recipe: dict[str, Any]) -> nn.Module:
    """Make the model, with random weights."""
    import timm

    name, arguments = recipe["name"], recipe["arguments"]
    if not timm.is_model(name.partition(".")[0]):  # not an address of a hub, nor a folder
        raise ValueError(f"{name!r} is not an architecture of timm")
    unknown = arguments.keys() - set(_ARGUMENTS)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]}= is not an argument that is saved")
    made: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return made


def _arguments(backbone: Any) -> dict[str, Any]:
    """Return arguments as the model shows them, the commonest first."""
    stem = next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)
    size = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    found = {
        "num_classes": getattr(backbone, "num_classes", None),
        "in_chans": None if stem is None else stem.in_channels,
        "global_pool": _pool(backbone) or _pool(getattr(backbone, "head", None)),
        "drop_rate": getattr(backbone, "drop_rate", None),
        "img_size": list(size) if size else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _pool(holder: Any) -> Any:
    pool = getattr(holder, "global_pool", None)
    return pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
