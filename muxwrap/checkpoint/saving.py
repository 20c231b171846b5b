"""A wrapped model written into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from muxwrap import _backbones
from muxwrap._hooks.components import Components
from muxwrap._hub.card import NAME as PAGE
from muxwrap._hub.card import is_ours, page
from muxwrap._util.writer import Writer
from muxwrap.checkpoint.config import CONFIG, describe
from muxwrap.checkpoint.digests import sealed
from muxwrap.checkpoint.files import ADDED, OWN, PLAIN, TENSORS
from muxwrap.checkpoint.folder import find, replacing
from muxwrap.checkpoint.tensors import added, distinct, misfit, of_backbone
from muxwrap.errors import MuxwrapError
from muxwrap.sites.families import transformers

BACKBONE_CONFIG = "backbone_config.json"


def save(
    model: Any,
    components: Components,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
    writer: Writer | None = None,
    unknown: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    name: str = "folder",
) -> None:
    """Write a wrapped model into a folder, which is made if it is not there.

    Args:
        model: the wrapped model, which holds the tensors.
        components: of the model.
        folder: where to write.
        state_dict: tensors to write instead of the model's own.
        writer: how; by default as safetensors.
        unknown: fields that a later version wrote into the config which this model was loaded from.
        card: what the model's page says that was measured.
        name: by which the model is loaded, on that page.

    Raises:
        MuxwrapError: the strategy or the demuxer has no registered name, so that nobody could load it, or the tensors cannot
            be saved.
    """
    folder, writer = Path(folder), writer or Writer()
    tensors = _checked(model, state_dict)
    writer.check(tensors)
    config = {
        **(unknown or {}),
        **describe(components),
        "sizes": list(model.sizes),
        "rows": model.n,
        "cost": model._cost,
    }
    config["recipe"] = _backbones.recipe_of(components.backbone)
    json.dumps(config)  # fails before anything is written
    own = transformers.named_as_loaded(components.backbone)
    with replacing(folder, TENSORS) as new:
        writer.write(of_backbone(tensors), new, OWN if own else PLAIN)
        writer.write(added(tensors), new, ADDED)
        _write_backbone_config(components.backbone, new, own)
        text = json.dumps(sealed(config, CONFIG, new), indent=2)
        (new / CONFIG).write_text(text + "\n", encoding="utf-8")
        if is_ours(find(folder, PAGE)):
            (new / PAGE).write_text(page(config, card, name), encoding="utf-8")


def _checked(model: Any, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return every tensor to be written once, under the wrapped model's names.

    Raises:
        MuxwrapError: something is not a tensor, or the given ones are not the model's.
    """
    held: Mapping[str, Any] = model.state_dict()
    for name, value in held.items():
        if not isinstance(value, Tensor):
            raise MuxwrapError(
                f"save_pretrained: {name} is a {type(value).__name__}, not a tensor; save before quantizing"
            )
    tensors = held if state_dict is None else state_dict
    problem = misfit(model, tensors)
    if problem is not None:
        raise MuxwrapError(
            f"save_pretrained(state_dict=...): {problem}; give what accelerator.get_state_dict or state_dict() returns for "
            "the wrapped model"
        )
    return distinct(model, tensors)


def _write_backbone_config(backbone: Any, folder: Path, own: bool) -> None:
    held: Any = getattr(backbone, "config", None)
    if own and hasattr(held, "save_pretrained"):
        transformers.config_of(backbone).save_pretrained(str(folder))
    elif hasattr(held, "to_json_file"):  # by a name that no loader takes for that of the weights
        transformers.config_of(backbone).to_json_file(str(folder / BACKBONE_CONFIG), use_diff=False)
