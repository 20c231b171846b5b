"""What a folder says about the inputs of its model: the files that lie beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap.errors import MuxwrapError

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
_PROCESSOR = "preprocessor_config.json"


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
    words = tokenizer if tokenizer is not None else folder
    if tokenizer is not None or any((folder / name).exists() for name in _TOKENIZER):
        return {"tokenizer": _read("AutoTokenizer", words)}
    if (folder / _PROCESSOR).exists():
        return {"transform": Processor(_read("AutoImageProcessor", folder))}
    backbone = getattr(model, "backbone", model)
    if getattr(backbone, "pretrained_cfg", None):
        from timm.data import create_transform, resolve_model_data_config

        return {"transform": create_transform(**resolve_model_data_config(backbone), is_training=False)}
    raise MuxwrapError(
        f"serve {folder}: neither a tokenizer nor an image processor lies there, and the model is none of timm; save one "
        "beside it, give --tokenizer or --shape, or call muxwrap.serving.server(model, transform=...)"
    )


class Processor:
    """An image processor of Transformers as a transform of one image."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Any) -> torch.Tensor:
        """Return the row ``[C, H, W]``."""
        return self.processor(image, return_tensors="pt")["pixel_values"][0]


def _read(loader: str, folder: Path) -> Any:
    """Read from a folder and nowhere else: a name that is no folder would be looked up on the hub."""
    if not folder.is_dir():
        raise MuxwrapError(f"serve: {folder} is no folder; give one that save_pretrained wrote")
    try:
        import transformers

        return getattr(transformers, loader).from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise MuxwrapError(
            f"serve: {loader} cannot read {folder} ({told[:200]}); save it there with save_pretrained, and install "
            "'muxwrap[hf]'"
        ) from error


def _example(shape: str, dtype: str) -> torch.Tensor:
    kind = getattr(torch, dtype, None)
    sizes = shape.split(",")
    if not isinstance(kind, torch.dtype) or not all(size.isdecimal() and int(size) for size in sizes):
        raise MuxwrapError(
            f"serve --shape {shape} --dtype {dtype}: give a shape such as 3,8,8, and a dtype such as float32"
        )
    return torch.zeros(1, *map(int, sizes), dtype=kind)
