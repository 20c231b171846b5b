"""How a saved model's inputs are made, from the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.images import Images
from muxwrap.inference.optional import optional
from muxwrap.inference.texts import Texts

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def encoder_beside(
    folder: str | Path,
    model: Any,
    *,
    tokenizer: str | Path | None = None,
    processor: str | Path | None = None,
    text: tuple[str, ...] = ("text",),
    image: str = "image",
    max_length: int | None = None,
) -> Encoder:
    """Make the encoder of a saved model.

    Args:
        folder: of the model; its tokenizer or image processor may lie there.
        model: as it was loaded; one of timm says itself how its images are made.
        tokenizer: what ``AutoTokenizer.from_pretrained`` takes, instead of the folder.
        processor: what ``AutoImageProcessor.from_pretrained`` takes, instead of the folder.
        text: columns of the texts.
        image: the column of the images.
        max_length: see :class:`Texts`.

    Raises:
        MuxwrapError: nothing says how inputs are made, or it cannot be read.
    """
    tokenizer = tokenizer or (folder if _holds(folder, TOKENIZERS) else None)
    if tokenizer is not None:
        return Texts(_loaded("AutoTokenizer", tokenizer), text, max_length=max_length)
    processor = processor or (folder if _holds(folder, PROCESSORS) else None)
    if processor is not None:
        return Images(Processed(_loaded("AutoImageProcessor", processor)), image)
    if type(model.backbone).__module__.startswith("timm."):
        data = optional("timm.data", "timm")
        return Images(data.create_transform(**data.resolve_model_data_config(model.backbone)), image)
    raise MuxwrapError(
        f"predict {folder}: nothing there says how the inputs of {type(model).__name__} are made; save the tokenizer or the "
        "image processor there, or name its folder with --tokenizer or --processor"
    )


class Processed:
    """An image processor of Transformers as a transform."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Any) -> Tensor:
        """Return ``[C, H, W]``."""
        pixels: Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels


def _holds(folder: str | Path, names: tuple[str, ...]) -> bool:
    return any((Path(folder) / name).exists() for name in names)


def _loaded(kind: str, source: str | Path) -> Any:
    try:
        return getattr(optional("transformers", "hf"), kind).from_pretrained(source)
    except MuxwrapError:
        raise
    except Exception as error:  # as many kinds as there are files
        reason = str(error).partition("\n")[0]
        raise MuxwrapError(
            f"predict: {kind}.from_pretrained({str(source)!r}) fails ({type(error).__name__}: {reason}); give a folder that "
            "its save_pretrained wrote"
        ) from error
