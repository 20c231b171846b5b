"""What a folder of answers was begun with, so that it is ended with the same."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.rows import Row

MANIFEST = "_muxwrap.json"  # readers of Parquet folders leave out what begins with an underscore
FORMAT = 1


def begin(out: Path, settings: dict[str, Any]) -> None:
    """Note what answers are made with, or compare it with what they were begun with.

    Raises:
        MuxwrapError: the folder was begun with something else, or holds other files.
    """
    path = out / MANIFEST
    if path.exists():
        _compare(out, json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(settings)))
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MuxwrapError(f"predict(out={str(out)!r}): it holds files of others; give a new folder, or an empty one")
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "muxwrap": muxwrap.__version__, "settings": settings}, indent=1)
    temporary = out / f".{uuid.uuid4().hex}"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _compare(out: Path, begun: dict[str, Any], settings: dict[str, Any]) -> None:
    if begun["format"] != FORMAT:
        raise MuxwrapError(
            f"predict(out={str(out)!r}): begun by muxwrap {begun['muxwrap']} in format {begun['format']}; end it with that "
            "version, or give another out="
        )
    old = begun["settings"]
    other = next((name for name in settings if settings[name] != old[name]), None)
    if other is not None:
        raise MuxwrapError(
            f"predict(out={str(out)!r}): begun with {other} {_short(old[other])}, and now it is {_short(settings[other])}; "
            "give the same to go on, or another out="
        )


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


def model_digest(model: Any) -> str:
    """Return by what a wrapped model is known again: its modules, how it is wrapped, every parameter and buffer."""
    described = re.sub(r" at 0x[0-9a-f]+", "", f"{model!r}\n{model.backbone!r}")
    digest = hashlib.sha256(described.encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        _add(digest, name, tensor)
    return digest.hexdigest()


def encoder_digest(encoder: Encoder, sample: Sequence[Row]) -> str:
    """Return by what an encoder is known again: its vocabulary, if it has one, and what it makes of the first rows.

    Raises:
        MuxwrapError: it makes something else of them the second time.
    """
    first, second = (_made_of(encoder, sample) for _ in range(2))
    if first != second:
        raise MuxwrapError(
            f"predict({type(encoder).__name__}): the same rows gave different inputs the second time; take out what is random, "
            "such as an augmentation, so that a restart gives the same answers"
        )
    return first


def _made_of(encoder: Encoder, sample: Sequence[Row]) -> str:
    vocabulary: dict[str, int] = getattr(getattr(encoder, "tokenizer", None), "get_vocab", dict)()
    digest = hashlib.sha256(repr((type(encoder).__name__, encoder.columns, sorted(vocabulary.items()))).encode())
    for inputs in encoder.encode([row for row in sample if row.problem is None]):
        for name, value in sorted(inputs.items()) if isinstance(inputs, dict) else [("", inputs)]:
            if isinstance(value, Tensor):
                _add(digest, name, value)
            else:
                digest.update(repr((name, value)).encode())
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
