"""Save a wrapped model and load it: how it was wrapped, what was added, and the backbone as its own library reads it.

| file | holds |
| --- | --- |
| ``muxwrap.json`` | how the model was wrapped |
| ``muxwrap.safetensors`` | the tensors that were added: φ and the demuxers |
| ``model.safetensors``, ``config.json`` | the backbone under its own names, and its config if it has one |
| ``backbone.safetensors`` | the backbone in their place, if nothing made of its config has these names (adapters, for one) |

A loader that finds names which it does not expect leaves random weights where it expected others, and logs a line; one that
finds no file fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muxwrap import demuxers, strategies
from muxwrap._hooks.components import Components
from muxwrap._util.writer import Writer, read
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.site import Sites
from muxwrap.sites.families import transformers

CONFIG, FORMAT = "muxwrap.json", 2
BACKBONE_CONFIG = "backbone_config.json"
_OWN, _PLAIN, _ADDED = "model", "backbone", "muxwrap"
_WRITTEN = ("model.safetensors", "pytorch_model.bin")
"""Files of all tensors under the wrapped model's names: those of format 1, and of the Trainer's checkpoints."""
_FILES = (*_WRITTEN, *(f"{name}{ending}" for name in (_PLAIN, _ADDED) for ending in (".safetensors", ".bin")))
_PREFIX = "backbone."


def save(
    model: Any,
    components: Components,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
    writer: Writer | None = None,
) -> None:
    """Write a wrapped model into a folder, which is made if it is not there.

    Args:
        model: the wrapped model, which holds the tensors.
        components: of the model.
        folder: where to write.
        state_dict: tensors to write instead of the model's own.
        writer: how; by default as safetensors.

    Raises:
        MuxwrapError: the strategy or the demuxer has no registered name, so that nobody could load it, or the tensors cannot
            be saved.
    """
    folder, writer = Path(folder), writer or Writer()
    tensors: Mapping[str, Tensor] = model.state_dict() if state_dict is None else state_dict
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise MuxwrapError(
                f"save_pretrained: {name} is a {type(value).__name__}, not a tensor; save before quantizing"
            )
    problem = _misfit(model, tensors)
    if problem is not None:
        raise MuxwrapError(
            f"save_pretrained(state_dict=...): {problem}; give what accelerator.get_state_dict or state_dict() returns for "
            "the wrapped model"
        )
    names = [_saved_name(group, tensors) for group in _tied(model)]
    distinct = {name: tensors[name].detach().contiguous() for name in names}
    writer.check(distinct)
    config = {**describe(components), "sizes": list(model.sizes), "rows": model.n}
    text = json.dumps(config, indent=2)  # fails before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    own = transformers.named_as_loaded(components.backbone)
    backbone = {name.removeprefix(_PREFIX): value for name, value in distinct.items() if name.startswith(_PREFIX)}
    added = {name: value for name, value in distinct.items() if not name.startswith(_PREFIX)}
    files = [writer.write(backbone, folder, _OWN if own else _PLAIN), writer.write(added, folder, _ADDED)]
    for left in set(_FILES).difference(files):
        (folder / left).unlink(missing_ok=True)
    (folder / CONFIG).write_text(text + "\n")
    backbone_config: Any = getattr(components.backbone, "config", None)
    if own and hasattr(backbone_config, "save_pretrained"):
        transformers.config_of(components.backbone).save_pretrained(str(folder))
    elif hasattr(backbone_config, "to_json_file"):  # by a name that no loader takes for that of the weights
        transformers.config_of(components.backbone).to_json_file(str(folder / BACKBONE_CONFIG), use_diff=False)


def describe(components: Components) -> dict[str, Any]:
    """Return how a model is wrapped, in JSON's types.

    Raises:
        MuxwrapError: the strategy or the demuxer has no registered name.
    """
    return {
        "format": FORMAT,
        "backbone": type(components.backbone).__name__,
        "n": components.n,
        "check_finite": components.check_finite,
        "largest": components.largest,
        "shuffle": components.shuffle,
        "strategy": _named(components.strategy, "strategy"),
        "demux": _named(components.demuxer, "demuxer"),
        "sites": components.sites.to_dict(),
    }


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return how the model saved in a folder was wrapped.

    Raises:
        MuxwrapError: the folder holds no wrapped model, or one of a later format.
    """
    try:
        config: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text())
    except FileNotFoundError:
        tensors = any((Path(folder) / name).exists() for name in _WRITTEN)
        way_out = (
            "its tensors say nothing of how the model was wrapped (a checkpoint of the Trainer?): give the wrapped model, "
            "load(folder, muxwrap.wrap(backbone, n, ...))"
            if tensors
            else "give a folder that save_pretrained wrote"
        )
        raise MuxwrapError(f"load({str(folder)!r}): no {CONFIG} there; {way_out}") from None
    if config["format"] > FORMAT:
        raise MuxwrapError(
            f"load({str(folder)!r}): written in format {config['format']}, this muxwrap reads up to {FORMAT}; update muxwrap"
        )
    return config


def load_into(model: nn.Module, components: Components, folder: str | Path) -> int | None:
    """Load what was saved of a model that was wrapped as this one: a checkpoint of the Trainer does not say how.

    Returns:
        The rows per mixture that the model was saved with, or None where the folder does not say.

    Raises:
        MuxwrapError: the saved model was wrapped in another way, or its tensors do not fit.
    """
    rows = None
    if (Path(folder) / CONFIG).exists():
        saved, own = read_config(folder), json.loads(json.dumps(describe(components)))
        rows = saved.get("rows")
        same = {
            "n": saved["n"] == own["n"],
            "strategy": _is_part_of(saved["strategy"], own["strategy"]),
            "demux": _is_part_of(saved["demux"], own["demux"]),
            "sites": Sites.from_dict(saved["sites"]) == components.sites,
        }
        key = next((key for key, equal in same.items() if not equal), None)
        if key is not None:
            raise MuxwrapError(
                f"load({str(folder)!r}): the saved model has {key} {saved[key]}, and this one {own[key]}; give the bare "
                "backbone, which is then wrapped as the saved one"
            )
    load_tensors(model, folder)
    return rows


def _is_part_of(saved: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether a saved module is of this kind; options that came later are not in the file."""
    return saved["name"] == own["name"] and saved["options"].items() <= own["options"].items()


def load_tensors(model: nn.Module, folder: str | Path) -> None:
    """Load every tensor of a saved model into one that is wrapped alike.

    Raises:
        MuxwrapError: a name or a shape differs: the backbone is of another architecture.
    """
    tensors = _read(model, Path(folder))
    problem = _misfit(model, tensors)
    if problem is not None:
        backbone = type(model.get_submodule("backbone")).__name__
        raise MuxwrapError(f"load({str(folder)!r}): the saved tensors do not fit this {backbone}: {problem}")
    model.load_state_dict(tensors, strict=False)


def _read(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Return the saved tensors under the wrapped model's names."""
    found = [name for name in _FILES if (folder / name).exists()]
    if not found:
        raise MuxwrapError(f"load({str(folder)!r}): no tensors there; give a folder that save_pretrained wrote")
    backbone = read(folder / found[0])
    added = next((name for name in found if name.startswith(_ADDED)), None)
    if added is None or _misfit(model, backbone) is None:
        return backbone
    return {**{_PREFIX + name: value for name, value in backbone.items()}, **read(folder / added)}


def _saved_name(group: list[str], tensors: Mapping[str, Tensor]) -> str:
    """Return the name by which a tensor of several names is saved: the backbone's, without which its file is not whole."""
    there = [name for name in group if name in tensors]
    return next((name for name in there if name.startswith(_PREFIX)), there[0])


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the names of a model's tensors; several names of the same tensor stand together."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        view = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        same = id(tensor) if tensor.is_meta or not tensor.numel() else view
        groups.setdefault(same, []).append(name)
    return list(groups.values())


def _misfit(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Describe how tensors differ from a model's in names and shapes; None where they do not."""
    own = model.state_dict()
    unknown = [name for name in tensors if name not in own]
    if unknown:
        return f"{_some(unknown)} not of the model"
    missing = [group[0] for group in _tied(model) if not any(name in tensors for name in group)]
    if missing:
        return f"{_some(missing)} missing"
    other = next((name for name in tensors if tensors[name].shape != own[name].shape), None)
    if other is not None:
        return f"{other} is {list(tensors[other].shape)}, and the model's is {list(own[other].shape)}"
    return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'is' if len(names) == 1 else 'are'}"


def _named(module: nn.Module, kind: str) -> dict[str, Any]:
    registry = strategies.registry if kind == "strategy" else demuxers.registry
    name = getattr(module, "name", None)
    if name is None or registry.get(name) is not type(module):
        raise MuxwrapError(
            f"{type(module).__name__} has no name to save; put @muxwrap.register_{kind}('name') above the class"
        )
    return {"name": name, "options": options_of(module)}
