"""The tensors of a saved model put into a model, and the backbone made for them."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from muxwrap import _backbones
from muxwrap._backbones import MODEL_CONFIG
from muxwrap._hooks.components import Components
from muxwrap.checkpoint import digests
from muxwrap.checkpoint.config import CONFIG, describe
from muxwrap.checkpoint.files import changed
from muxwrap.checkpoint.reading import Saved
from muxwrap.checkpoint.tensors import misfit
from muxwrap.errors import MuxwrapError


def make_backbone(saved: Saved) -> nn.Module:
    """Make the backbone of a saved model, with random weights.

    Raises:
        MuxwrapError: the folder does not say how, or the library is missing or does not make it.
    """
    config = saved.wrapping
    if changed(saved.folder, config, MODEL_CONFIG):
        raise MuxwrapError(
            f"{saved.shown}: {MODEL_CONFIG} is not the one that was saved; give the model it belongs to, backbone=..., or take "
            f"{digests.KEY!r} out of {CONFIG} if the change is meant"
        )
    recipe = config.get("recipe")
    if "recipe" not in config and (saved.folder / MODEL_CONFIG).exists():
        recipe = {"library": "transformers", "class": config["backbone"]}  # a folder of version 0.1.0
    return _backbones.make(recipe, saved.folder, saved.shown)


def load_into(model: nn.Module, components: Components, saved: Saved) -> int | None:
    """Load what was saved of a model that was wrapped as this one: a checkpoint of the Trainer does not say how.

    Returns:
        The rows per mixture that the model was saved with, or None where the folder does not say.

    Raises:
        MuxwrapError: the saved model was wrapped in another way, or its tensors do not fit.
    """
    config = saved.config
    if config is not None:
        own = json.loads(json.dumps(describe(components)))
        same = {
            "n": config["n"] == own["n"],
            "strategy": _is_part_of(config["strategy"], own["strategy"]),
            "demux": _is_part_of(config["demux"], own["demux"]),
            "sites": saved.sites == components.sites,
        }
        key = next((key for key, equal in same.items() if not equal), None)
        if key is not None:
            raise MuxwrapError(
                f"{saved.shown}: the saved model has {key} {config[key]}, and this one {own[key]}; give the bare "
                "backbone, which is then wrapped as the saved one"
            )
    fill(model, saved)
    return None if config is None else config.get("rows")


def fill(model: nn.Module, saved: Saved, *, as_saved: bool = False) -> None:
    """Load every tensor of a saved model into one that is wrapped alike, in the model's dtypes or in the saved ones.

    Raises:
        MuxwrapError: a name or a shape differs: the backbone is of another architecture.
    """
    tensors = saved.named(model)
    problem = misfit(model, tensors)
    if problem is not None:
        backbone = type(model.get_submodule("backbone")).__name__
        raise MuxwrapError(f"{saved.shown}: the saved tensors do not fit this {backbone}: {problem}")
    if as_saved:
        for name, own in model.state_dict(keep_vars=True).items():
            own.data = own.data.to(tensors[name].dtype if name in tensors else own.dtype)
    model.load_state_dict(tensors, strict=False)


def _is_part_of(saved: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether a saved module is of this kind; options that came later are not in the file."""
    return saved["name"] == own["name"] and saved["options"].items() <= own["options"].items()
