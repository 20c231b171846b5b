"""Save a wrapped model and load it: one JSON file for how it was wrapped, one file for every tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muxwrap import demuxers, strategies
from muxwrap._hooks.components import Components
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of

CONFIG, WEIGHTS, PICKLED, FORMAT = "muxwrap.json", "model.safetensors", "pytorch_model.bin", 1

_UNITS = {unit: 1000**k for k, unit in enumerate(("B", "KB", "MB", "GB", "TB"))}
_UNITS |= {unit: 1024**k for k, unit in enumerate(("KIB", "MIB", "GIB", "TIB"), 1)}


@dataclass
class Writer:
    """How tensors are written: the arguments of :meth:`Multiplex.save_pretrained`.

    Args:
        save_function: writes in place of ``torch.save``.
        safe_serialization: False for ``torch.save``.
        max_shard_size: what the one file may take.

    Raises:
        MuxwrapError: the arguments contradict each other, or the size is none.
    """

    save_function: Callable[..., Any] | None = None
    safe_serialization: bool | None = None
    max_shard_size: int | str | None = None

    def __post_init__(self) -> None:
        if self.save_function is not None and self.safe_serialization:
            raise MuxwrapError(
                f"save_pretrained(save_function=..., safe_serialization=True): a save_function writes {PICKLED}; leave out "
                "one of the two"
            )
        self.limit = None if self.max_shard_size is None else _bytes(self.max_shard_size)

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse tensors that one file may not take, or that have no values.

        Raises:
            MuxwrapError: there is such a tensor.
        """
        empty = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
        if empty is not None:
            raise MuxwrapError(
                f"save_pretrained: {empty} is on the device 'meta' and has no values; load the weights first"
            )
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self.limit is not None and size > self.limit:
            raise MuxwrapError(
                f"save_pretrained(max_shard_size={self.max_shard_size!r}): a wrapped model is written as one file, and this "
                f"one takes {size:,} bytes; leave max_shard_size= out"
            )

    def write(self, tensors: dict[str, Tensor], folder: Path) -> None:
        """Write tensors into a folder, and remove those of the other format that may be there from before."""
        if self.save_function is None and self.safe_serialization is not False:
            written, other = WEIGHTS, PICKLED
            save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
        else:
            written, other = PICKLED, WEIGHTS
            (self.save_function or torch.save)(tensors, str(folder / written))
        (folder / other).unlink(missing_ok=True)


def check_options(options: Iterable[str]) -> None:
    """Refuse arguments of other libraries' ``save_pretrained``.

    Raises:
        MuxwrapError: there is one.
    """
    for name in options:
        way_out = (
            "upload the folder with huggingface_hub.upload_folder afterwards"
            if name == "push_to_hub"
            else "leave it out"
        )
        raise MuxwrapError(f"save_pretrained({name}=...) is not supported by a wrapped model; {way_out}")


def save(
    model: nn.Module,
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
    names = [next(name for name in group if name in tensors) for group in _tied(model)]
    distinct = {name: tensors[name].detach().contiguous() for name in names}
    writer.check(distinct)
    config = {
        "format": FORMAT,
        "backbone": type(components.backbone).__name__,
        "n": components.n,
        "check_finite": components.check_finite,
        "shuffle": model.shuffle,
        "strategy": _named(components.strategy, "strategy"),
        "demux": _named(components.demuxer, "demuxer"),
        "sites": components.sites.to_dict(),
    }
    text = json.dumps(config, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text + "\n")
    writer.write(distinct, folder)
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
    safe, pickled = Path(folder) / WEIGHTS, Path(folder) / PICKLED
    only_pickled = pickled.exists() and not safe.exists()
    tensors = torch.load(pickled, map_location="cpu", weights_only=True) if only_pickled else load_file(str(safe))
    problem = _misfit(model, tensors)
    if problem is not None:
        backbone = type(model.get_submodule("backbone")).__name__
        raise MuxwrapError(f"load({str(folder)!r}): the saved tensors do not fit this {backbone}: {problem}")
    model.load_state_dict(tensors, strict=False)


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


def _bytes(size: int | str) -> int:
    """Return a size such as ``"200MB"`` in bytes."""
    text = str(size).strip().upper()
    number = text.rstrip("BGIKMT")
    try:
        return int(float(number) * _UNITS[text[len(number) :].strip() or "B"])
    except (ValueError, KeyError):
        raise MuxwrapError(
            f"save_pretrained(max_shard_size={size!r}): not a size; give bytes, or a string such as '5GB'"
        ) from None


def _named(module: nn.Module, kind: str) -> dict[str, Any]:
    registry = strategies.registry if kind == "strategy" else demuxers.registry
    name = getattr(module, "name", None)
    if name is None or registry.get(name) is not type(module):
        raise MuxwrapError(
            f"{type(module).__name__} has no name to save; put @muxwrap.register_{kind}('name') above the class"
        )
    return {"name": name, "options": options_of(module)}
