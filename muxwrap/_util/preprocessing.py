"""What makes a saved model's inputs of texts and images: the files that lie beside its weights, or timm's own word."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from muxwrap.errors import MuxwrapError

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


class Preprocessing(NamedTuple):
    """A tokenizer of Transformers, or a transform from a ``PIL.Image`` to a row ``[C, H, W]``; the other is None."""

    tokenizer: Any = None
    transform: Any = None


class Processor:
    """An image processor of Transformers as a transform of one image."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Any) -> Tensor:
        """Return the row ``[C, H, W]``."""
        pixels: Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels


def preprocessing_of(
    call: str, folder: str | Path, model: nn.Module, tokenizer: Any = None, processor: Any = None
) -> Preprocessing | None:
    """Find how inputs are made.

    Args:
        call: what errors begin with.
        folder: of the model.
        model: as it was loaded, wrapped or bare.
        tokenizer: what ``AutoTokenizer.from_pretrained`` takes; by default the folder, if one lies there.
        processor: what ``AutoImageProcessor.from_pretrained`` takes; likewise.

    Returns:
        None where nothing says it.

    Raises:
        MuxwrapError: what is there cannot be read, or its library is not installed.
    """
    if tokenizer is None and processor is None:
        tokenizer = folder if _holds(folder, _TOKENIZERS) else None
    if tokenizer is not None:
        return Preprocessing(tokenizer=_read(call, "AutoTokenizer", tokenizer))
    if processor is not None or _holds(folder, _PROCESSORS):
        return Preprocessing(transform=Processor(_read(call, "AutoImageProcessor", processor or folder)))
    backbone = getattr(model, "backbone", model)
    if not getattr(backbone, "pretrained_cfg", None):
        return None
    data = importlib.import_module("timm.data")  # which made the model
    return Preprocessing(transform=data.create_transform(**data.resolve_model_data_config(backbone), is_training=False))


def _holds(folder: str | Path, names: tuple[str, ...]) -> bool:
    return any((Path(folder) / name).exists() for name in names)


def _read(call: str, kind: str, source: str | Path) -> Any:
    """Read from a folder and nowhere else, where it is one; other names are looked up on the hub."""
    try:
        loader = getattr(importlib.import_module("transformers"), kind)
        return loader.from_pretrained(str(source), local_files_only=Path(source).is_dir())
    except Exception as error:  # as many kinds as there are files
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise MuxwrapError(
            f"{call}: {kind} cannot read {source} ({told[:200]}); give a folder that its save_pretrained wrote, and "
            "pip install 'muxwrap[hf]'"
        ) from error
