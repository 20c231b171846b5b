"""Rows of images: files, or bytes and paths in a table."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from muxwrap.inference.encoder import Encoder
from muxwrap.inference.optional import optional
from muxwrap.inference.rows import Row, missing


class Images(Encoder):
    """Makes a tensor of every image.

    Args:
        transform: from a ``PIL.Image`` in RGB to a tensor ``[C, H, W]``, without anything random.
        column: of a table: bytes, paths (relative to the table's folder), or a mapping of ``bytes`` and ``path``, as Hugging
            Face writes it. An image file is a row whose column ``image`` is the file.
        mode: of the image that the transform gets, as Pillow names it.
    """

    rows_per_part = 512

    def __init__(self, transform: Callable[[Any], Tensor], column: str = "image", *, mode: str = "RGB") -> None:
        self.transform = transform
        self.columns = (column,)
        self.mode = mode

    def encode(self, rows: Sequence[Row]) -> list[Tensor | str]:
        """Return the tensor of every row, or why its image cannot be read."""
        module = optional("PIL.Image", "predict")
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(lambda row: self._tensor(row, module), rows))

    def _tensor(self, row: Row, module: Any) -> Tensor | str:
        value = row.values.get(self.columns[0])
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if missing(value):
            return f"no image in {self.columns[0]!r}"
        if not isinstance(value, (str, bytes)):
            return f"a {type(value).__name__} in {self.columns[0]!r}, not bytes or a path"
        try:
            with module.open(io.BytesIO(value) if isinstance(value, bytes) else row.file.path.parent / value) as image:
                tensor = self.transform(image.convert(self.mode))
        except Exception as error:  # Pillow raises many kinds for a broken file
            return f"the image cannot be read: {type(error).__name__}: {_without_address(error)}"
        if not isinstance(tensor, Tensor):
            return f"transform returned a {type(tensor).__name__}, not a tensor"
        return tensor if tensor.isfinite().all() else "the image has NaN or infinity"

    def shape(self, inputs: Tensor) -> Hashable:
        """Return the tensor's own shape."""
        return tuple(inputs.shape)

    def collate(self, inputs: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return ``[rows, C, H, W]``."""
        return (torch.stack(list(inputs)),), {}


def _without_address(error: Exception) -> str:
    """Return what an error says, the same in every process: Pillow names the address of the bytes."""
    return str(error).partition(" <_io")[0].partition(" '/")[0]
