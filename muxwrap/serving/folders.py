"""What a folder says about the inputs of its model: the files that lie beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap._util.preprocessing import preprocessing_of
from muxwrap.errors import MuxwrapError


def kind_of_input(
    folder: Path, model: nn.Module, tokenizer: Path | None = None, shape: str | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """Return the argument of :func:`muxwrap.serving.server` that says what requests hold.

    Args:
        folder: of the model.
        model: the wrapped model.
        tokenizer: a folder with a tokenizer; by default the model's own.
        shape: of a row of numbers, such as ``"3x8x8"``.
        dtype: of these numbers.

    Raises:
        MuxwrapError: neither files nor arguments say it, or they cannot be read.
    """
    if shape is not None:
        return {"example_input": _example(shape, dtype)}
    if tokenizer is not None and not tokenizer.is_dir():  # a server asks no hub
        raise MuxwrapError(f"serve: {tokenizer} is no folder; give one that save_pretrained wrote")
    found = preprocessing_of("serve", folder, model, tokenizer)
    if found is not None:
        return {name: value for name, value in found._asdict().items() if value is not None}
    raise MuxwrapError(
        f"serve {folder}: neither a tokenizer nor an image processor lies there, and the model is none of timm; save one "
        "beside it, give --tokenizer or --shape, or call muxwrap.serving.server(model, transform=...)"
    )


def _example(shape: str, dtype: str) -> torch.Tensor:
    kind = getattr(torch, dtype, None)
    sizes = shape.split(",")
    if not isinstance(kind, torch.dtype) or not all(size.isdecimal() and int(size) for size in sizes):
        raise MuxwrapError(
            f"serve --shape {shape} --dtype {dtype}: give a shape such as 3,8,8, and a dtype such as float32"
        )
    return torch.zeros(1, *map(int, sizes), dtype=kind)
