"""A bare, untrained model from a name on the command line."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from muxwrap.errors import MuxwrapError

FORMS = (
    "timm:NAME, torchvision:NAME, transformers:MODEL_TYPE (or a folder with a config.json), or package.module:FUNCTION"
)


def model_named(name: str) -> nn.Module:
    """Make a model from ``timm:resnet50``, ``torchvision:resnet50``, ``transformers:bert`` or ``package.module:function``.

    Weights are not loaded: neither sites nor speed depend on them.

    Raises:
        MuxwrapError: the name has another form, the library is missing, or it knows no such model.
    """
    family, colon, rest = name.partition(":")
    if not colon:
        raise MuxwrapError(f"{name!r} is not the name of a model; give {FORMS}")
    make = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}.get(family)
    try:
        model = make(rest) if make else getattr(importlib.import_module(family), rest)()
    except MuxwrapError:
        raise
    except Exception as error:
        raise MuxwrapError(f"{name!r} cannot be made: {type(error).__name__}: {error}; give {FORMS}") from error
    if not isinstance(model, nn.Module):
        raise MuxwrapError(f"{name!r} gives a {type(model).__name__}; name a function that returns a torch.nn.Module")
    return model


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name)


def _torchvision(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name)


def _transformers(name: str) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(name) if Path(name).is_dir() else AutoConfig.for_model(name)
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0  # decoders refuse batches without one
    for auto in (AutoModelForSequenceClassification, AutoModelForImageClassification):
        if type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise MuxwrapError(f"transformers:{name} has no classification model; give another model type")
