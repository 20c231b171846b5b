"""The files of a saved model that hold tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from muxwrap._util.writer import PICKLED, SAFE, read
from muxwrap.checkpoint import digests
from muxwrap.checkpoint.folder import find
from muxwrap.checkpoint.tensors import PREFIX
from muxwrap.errors import MuxwrapError

OWN, PLAIN, ADDED = "model", "backbone", "muxwrap"
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""Files of all tensors under the wrapped model's names: those of format 1, and of the Trainer's checkpoints."""
TENSORS = (*WHOLE, *(f"{name}{ending}" for name in (PLAIN, ADDED) for ending in (SAFE, PICKLED)))


def read_tensors(
    folder: Path, config: Mapping[str, Any], shown: str, allow_pickle: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Return the tensors of the backbone's file and those of the file of what was added, None where there is none.

    Args:
        folder: of the model.
        config: the folder's, with the digests of the files; empty where there is none.
        shown: the call that messages repeat.
        allow_pickle: whether files that are not safetensors may be read.

    Raises:
        MuxwrapError: a file is missing, cannot be read or is not the one that was saved.
    """
    there = [name for name in TENSORS if find(folder, name) is not None]
    listed = [name for name in config.get(digests.KEY, ()) if name in TENSORS]
    missing = next((name for name in listed if name not in there), None)
    if missing is not None:
        _check_asked(missing, shown, allow_pickle)  # it may be missing because pickles are not downloaded either
    # One of the Trainer's may have come beside a backbone's file of another name.
    names = [name for name in there if name in listed or name == WHOLE[0]] if listed else there
    main = next((name for name in names if not name.startswith(ADDED)), None)
    if main is None or missing is not None:
        raise MuxwrapError(
            f"{shown}: {missing or 'a file of tensors'} is not there; give a folder that save_pretrained wrote"
        )
    beside = next((name for name in names if name.startswith(ADDED)), None)
    backbone = _read(folder, main, shown, allow_pickle)
    if beside is None:
        return backbone, None
    new = _read(folder, beside, shown, allow_pickle)
    for name in (main, beside):
        if changed(folder, config, name) and not _is_whole(backbone, new):
            raise MuxwrapError(
                f"{shown}: {name} is not the file that was saved with {', '.join(listed)}; save the model again, or take "
                f"{digests.KEY!r} out of muxwrap.json to read the files as they are"
            )
    return backbone, new


def changed(folder: Path, config: Mapping[str, Any], name: str) -> bool:
    """Whether a file differs from the one that was saved."""
    path, wanted = find(folder, name), digests.expected(config, name)
    return wanted is not None and (path is None or digests.of_file(path) != wanted)


def _is_whole(tensors: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> bool:
    """Whether a file holds the whole wrapped model: the Trainer's own, which it writes over the backbone's."""
    return new.keys() <= tensors.keys() and all(name in new or name.startswith(PREFIX) for name in tensors)


def _read(folder: Path, name: str, shown: str, allow_pickle: bool) -> dict[str, Tensor]:
    path = find(folder, name)
    if path is None:
        raise FileNotFoundError(folder / name)
    _check_asked(name, shown, allow_pickle)
    return read(path, f"{shown}: {name}")


def _check_asked(name: str, shown: str, allow_pickle: bool) -> None:
    if name.endswith(PICKLED) and not allow_pickle:
        raise MuxwrapError(
            f"{shown}: {name} is a pickle, and pickles are read only if that is asked for; give allow_pickle=True (torch then "
            "reads it with weights_only=True), or save the model as safetensors"
        )
