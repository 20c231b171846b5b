"""Images in, as the bytes of a file."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from muxwrap.errors import MuxwrapError
from muxwrap.serving.fields import read_fields
from muxwrap.serving.inputs import Row, stack
from muxwrap.serving.requests import RequestError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Raster formats; some of Pillow's other readers start programs."""


class Images:
    """Images: the bytes of a file as the body, or ``{"image": "<base64>"}``.

    Args:
        transform: a ``PIL.Image`` to one row of the model's input, ``[C, H, W]``: that of validation.
        mode: of Pillow, into which every image is converted first.
        max_pixels: most pixels of an image, checked before it is decoded.

    Raises:
        MuxwrapError: the transform does not give images of one shape.
    """

    field = "image"
    media: tuple[str, ...] = ("image/*", "application/octet-stream")

    def __init__(self, transform: Callable[[Any], Any], *, mode: str = "RGB", max_pixels: int = 50_000_000) -> None:
        from PIL import Image

        self.transform, self.mode, self.max_pixels = transform, mode, max_pixels
        self.collate = partial(stack, name=self.field)
        self.schema: Mapping[str, Any] = {
            self.field: {"type": "string", "format": "byte", "description": f"a {', '.join(FORMATS)} file in base64"}
        }
        blanks = [self._row(Image.new(mode, size)) for size in ((64, 48), (320, 480))]
        if blanks[0].shape != blanks[1].shape:
            raise MuxwrapError(
                f"transform: it makes {list(blanks[0].shape)} of one image and {list(blanks[1].shape)} of another, and these "
                "cannot share a mixture; add a resize and a crop to one size"
            )
        self.blank = blanks[0]

    def read(self, body: bytes, media: str) -> tuple[Row, Mapping[str, Any]]:
        """Return the image of a body.

        Raises:
            RequestError: it is no image of these formats, or too large.
        """
        if media.startswith("image/") or media == "application/octet-stream":
            return self._decode(body), {}
        fields = read_fields(body, self.field)
        try:
            data = base64.b64decode(fields[self.field], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise RequestError(422, "'image' is no base64; send the file's bytes in base64, or as the body") from None
        return self._decode(data), fields

    def _decode(self, data: bytes) -> Row:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow: the size is checked here
                image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
                pixels = image.width * image.height
                if 0 < pixels <= self.max_pixels:
                    image = image.convert(self.mode)
        except Exception:  # Pillow's readers raise whatever a broken file makes them
            raise RequestError(422, f"the image cannot be read; send a whole {', '.join(FORMATS)} file") from None
        if pixels > self.max_pixels:
            raise RequestError(413, f"the image has {pixels:,} pixels; send one of at most {self.max_pixels:,}")
        row = self._row(image)
        if row.shape != self.blank.shape:
            raise RequestError(
                422, f"the image becomes {list(row.shape)} and not {list(self.blank.shape)}; send another size"
            )
        if not np.isfinite(row).all():
            raise RequestError(422, "the image becomes numbers that are not finite; send another one")
        return {self.field: row}

    def _row(self, image: Any) -> np.ndarray:
        row = self.transform(image)
        return np.ascontiguousarray(row.numpy() if hasattr(row, "numpy") else row, np.float32)

    def largest(self) -> Row:
        """Return a blank image: all rows are of one size."""
        return {self.field: self.blank}
