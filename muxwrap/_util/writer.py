"""How the tensors of a wrapped model are written: the arguments that ``save_pretrained`` takes in Transformers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from muxwrap.errors import MuxwrapError

SAFE, PICKLED = ".safetensors", ".bin"

_UNITS = {unit: 1000**k for k, unit in enumerate(("B", "KB", "MB", "GB", "TB"))}
_UNITS |= {unit: 1024**k for k, unit in enumerate(("KIB", "MIB", "GIB", "TIB"), 1)}


@dataclass
class Writer:
    """How tensors are written: the arguments of :meth:`Multiplex.save_pretrained`.

    Args:
        save_function: writes in place of ``torch.save``.
        safe_serialization: False for ``torch.save``.
        max_shard_size: what all tensors together may take.

    Raises:
        MuxwrapError: the arguments contradict each other, or the size is none.
    """

    save_function: Callable[..., Any] | None = None
    safe_serialization: bool | None = None
    max_shard_size: int | str | None = None

    def __post_init__(self) -> None:
        if self.save_function is not None and self.safe_serialization:
            raise MuxwrapError(
                "save_pretrained(save_function=..., safe_serialization=True): a save_function writes a pickle; leave out "
                "one of the two"
            )
        self.limit = None if self.max_shard_size is None else _bytes(self.max_shard_size)

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse tensors that take too much, that have no values, or that are parts of tensors.

        Raises:
            MuxwrapError: there is such a tensor.
        """
        empty = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
        if empty is not None:
            raise MuxwrapError(
                f"save_pretrained: {empty} is on the device 'meta' and has no values; load the weights first"
            )
        sharded = next((name for name, tensor in tensors.items() if hasattr(tensor, "full_tensor")), None)
        if sharded is not None:
            raise MuxwrapError(
                f"save_pretrained: {sharded} is sharded over processes; gather them in every process with torch.distributed."
                "checkpoint.state_dict.get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, "
                "cpu_offload=True)), and give that as state_dict= in rank 0"
            )
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self.limit is not None and size > self.limit:
            raise MuxwrapError(
                f"save_pretrained(max_shard_size={self.max_shard_size!r}): a wrapped model is written without shards, "
                f"and this one takes {size:,} bytes; leave max_shard_size= out"
            )

    def write(self, tensors: dict[str, Tensor], folder: Path, name: str) -> str:
        """Write tensors into a folder, and return the name of the file: ``name`` with the ending of its format."""
        if self.save_function is None and self.safe_serialization is not False:
            written = name + SAFE
            save_file(tensors, str(folder / written), metadata={"format": "pt"})
        else:
            # Transformers reads a pickle under this name only.
            written = ("pytorch_model" if name == "model" else name) + PICKLED
            (self.save_function or torch.save)(tensors, str(folder / written))
        return written


def read(path: Path, shown: str) -> dict[str, Tensor]:
    """Return the tensors of a file, of either format.

    Args:
        path: the file.
        shown: what messages begin with.

    Raises:
        MuxwrapError: it is cut, or holds something else.
    """
    try:
        found = load_file(str(path)) if path.suffix == SAFE else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise MuxwrapError(f"{shown} cannot be read as tensors ({error}); save the model again") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise MuxwrapError(f"{shown} does not hold a dictionary of tensors; save the model again")
    return found


def check_options(options: Iterable[str]) -> None:
    """Refuse arguments of other libraries' ``save_pretrained``.

    Raises:
        MuxwrapError: there is one.
    """
    for name in options:
        way_out = "call model.push_to_hub(repo_id)" if name == "push_to_hub" else "leave it out"
        raise MuxwrapError(f"save_pretrained({name}=...) is not supported by a wrapped model; {way_out}")


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
