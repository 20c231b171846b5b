"""How a saved model's inputs are made, from the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muxwrap._util.preprocessing import preprocessing_of
from muxwrap.errors import MuxwrapError
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.images import Images
from muxwrap.inference.texts import Texts


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
    found = preprocessing_of("predict", folder, model, tokenizer, processor)
    if found is not None and found.tokenizer is not None:
        return Texts(found.tokenizer, text, max_length=max_length)
    if found is not None:
        return Images(found.transform, image)
    raise MuxwrapError(
        f"predict {folder}: nothing there says how the inputs of {type(model).__name__} are made; save the tokenizer or the "
        "image processor there, or name its folder with --tokenizer or --processor"
    )
