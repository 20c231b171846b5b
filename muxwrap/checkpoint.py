"""Save a wrapped model and load it: one JSON file for how it was wrapped, one safetensors file for every tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_model, save_model
from torch import nn

from muxwrap import demuxers, strategies
from muxwrap._hooks.components import Components
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of

CONFIG, WEIGHTS, FORMAT = "muxwrap.json", "model.safetensors", 1


def save(model: nn.Module, components: Components, folder: str | Path) -> None:
    """Write a wrapped model into a folder, which is made if it is not there.

    Args:
        model: the wrapped model, which holds the tensors.
        components: of the model.
        folder: where to write.

    Raises:
        MuxwrapError: the strategy or the demuxer has no registered name, so that nobody could load it.
    """
    folder = Path(folder)
    config = {
        "format": FORMAT,
        "backbone": type(components.backbone).__name__,
        "n": components.n,
        "check_finite": components.check_finite,
        "strategy": _named(components.strategy, "strategy"),
        "demux": _named(components.demuxer, "demuxer"),
        "sites": components.sites.to_dict(),
    }
    text = json.dumps(config, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text + "\n")
    save_model(model, str(folder / WEIGHTS))
    backbone_config: Any = getattr(components.backbone, "config", None)
    if hasattr(backbone_config, "save_pretrained"):
        backbone_config.save_pretrained(str(folder))


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return how the model saved in a folder was wrapped.

    Raises:
        MuxwrapError: the folder holds no wrapped model, or one of a later format.
    """
    try:
        config: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text())
    except FileNotFoundError:
        raise MuxwrapError(
            f"load({str(folder)!r}): no {CONFIG} there; give a folder that save_pretrained wrote"
        ) from None
    if config["format"] > FORMAT:
        raise MuxwrapError(
            f"load({str(folder)!r}): written in format {config['format']}, this muxwrap reads up to {FORMAT}; update muxwrap"
        )
    return config


def load_tensors(model: nn.Module, folder: str | Path) -> None:
    """Load every tensor of a saved model into one that is wrapped alike.

    Raises:
        MuxwrapError: a name or a shape differs: the backbone is of another architecture.
    """
    try:
        load_model(model, str(Path(folder) / WEIGHTS))
    except RuntimeError as error:
        backbone = type(model.get_submodule("backbone")).__name__
        raise MuxwrapError(f"load({str(folder)!r}): the saved tensors do not fit this {backbone}: {error}") from error


def _named(module: nn.Module, kind: str) -> dict[str, Any]:
    registry = strategies.registry if kind == "strategy" else demuxers.registry
    name = getattr(module, "name", None)
    if name is None or registry.get(name) is not type(module):
        raise MuxwrapError(
            f"{type(module).__name__} has no name to save; put @muxwrap.register_{kind}('name') above the class"
        )
    return {"name": name, "options": options_of(module)}
