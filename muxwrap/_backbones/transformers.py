"""Transformers: the class by its name, the rest by the ``config.json`` in the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from muxwrap._util.classes import class_of
from muxwrap.errors import MuxwrapError
from muxwrap.sites.families.transformers import config_of

EXTRA = "hf"
MODEL_CONFIG = "config.json"


def candidates(backbone: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the class's name, with the config as it will be read from the file."""
    if hasattr(getattr(backbone, "config", None), "to_json_string"):
        yield {
            "class": class_of(backbone).__name__,
            "config": json.loads(config_of(backbone).to_json_string(use_diff=False)),
        }


def stored(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what of a recipe goes into ``muxwrap.json``: the config has a file of its own."""
    return {"class": recipe["class"]}


def read(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stored recipe with the config in the folder.

    Raises:
        MuxwrapError: there is no config, or it is not one.
    """
    try:
        config = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MuxwrapError(
            f"{MODEL_CONFIG} of the {recipe.get('class')} cannot be read ({error}); give the model, backbone=..."
        ) from error
    return {**recipe, "config": config}


def make(recipe: dict[str, Any]) -> nn.Module:
    """Make the model, with random weights."""
    import transformers

    cls: Any = getattr(transformers, recipe["class"])
    if not issubclass(cls, transformers.PreTrainedModel):  # nothing else of the package is called by a file
        raise TypeError(f"{recipe['class']} is not a model")
    made: nn.Module = cls(cls.config_class.from_dict(recipe["config"]))
    return made
