"""A bare model from a name on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muxwrap.errors import MuxwrapError

if TYPE_CHECKING:
    from torch import nn

FORMS = (
    "timm:NAME, torchvision:NAME, hf:FOLDER (with a config.json), transformers:MODEL_TYPE or package.module:FUNCTION"
)

EXTRAS = {"timm": "timm", "torchvision": "vision", "hf": "hf", "transformers": "hf"}


def model_named(name: str) -> nn.Module:
    """Make a model from its name, such as ``timm:resnet50``, ``hf:folder``, ``transformers:bert`` or ``module:function``.

    Weights are not loaded, unless a function of the user's does: neither sites nor speed depend on them. Modules are also
    looked for in the working directory, as ``python -m`` does.

    Raises:
        MuxwrapError: the name has another form, the library is missing, or it knows no such model.
    """
    from torch import nn

    family, colon, rest = name.partition(":")
    if not (colon and family and rest):
        raise MuxwrapError(f"{name!r} is not the name of a model; give {FORMS}")
    known = {"timm": _timm, "torchvision": _torchvision, "hf": _folder, "transformers": _transformers}
    try:
        model = known[family](rest) if family in known else _function(family, rest)()
    except MuxwrapError:
        raise
    except ModuleNotFoundError as error:
        way_out = f"pip install 'muxwrap[{EXTRAS[family]}]'" if family in EXTRAS else f"give {FORMS}"
        raise MuxwrapError(f"{name!r} cannot be made: {error}; {way_out}") from error
    except Exception as error:
        raise MuxwrapError(f"{name!r} cannot be made: {type(error).__name__}: {error}; give {FORMS}") from error
    if not isinstance(model, nn.Module):
        raise MuxwrapError(f"{name!r} gives a {type(model).__name__}; name a function that returns a torch.nn.Module")
    return model


def function_named(name: str) -> Any:
    """Return the function ``package.module:FUNCTION``; modules are also looked for in the working directory.

    Raises:
        MuxwrapError: the name has another form, or there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = _function(module, function)
    except Exception as error:
        raise MuxwrapError(
            f"{name!r} is not found: {type(error).__name__}: {error}; give package.module:FUNCTION"
        ) from error
    if not callable(found):
        raise MuxwrapError(f"{name!r} is a {type(found).__name__}; name a function")
    return found


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name)


def _torchvision(name: str) -> Any:
    import torchvision

    return torchvision.models.get_model(name)


def _function(module: str, name: str) -> Any:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), name)


def _folder(folder: str) -> Any:
    """Make the model of the class that the folder's config names, such as BertForTokenClassification."""
    import transformers

    if not Path(folder, "config.json").is_file():
        raise MuxwrapError(
            f"hf:{folder}: no config.json there; name a folder that save_pretrained wrote, or transformers:MODEL_TYPE"
        )
    config = transformers.AutoConfig.from_pretrained(folder)
    named = [getattr(transformers, each, None) for each in getattr(config, "architectures", None) or ()]
    return named[0](config) if named and named[0] else _classifier(config, f"hf:{folder}")


def _transformers(model_type: str) -> Any:
    from transformers import AutoConfig

    return _classifier(AutoConfig.for_model(model_type), f"transformers:{model_type}")


def _classifier(config: Any, name: str) -> Any:
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0  # decoders refuse batches without one
    for auto in (AutoModelForSequenceClassification, AutoModelForImageClassification):
        if type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise MuxwrapError(f"{name} has no classification model; give another model type")
