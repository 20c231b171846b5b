"""Numbers in, as nested lists: for models of vectors, series, or token ids that the client makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.serving.fields import read_fields
from muxwrap.serving.inputs import Row, stack
from muxwrap.serving.requests import RequestError


class Arrays:
    """Numbers of one shape: ``{"input": [[...]]}``.

    Args:
        example: a batch such as the model takes; its rows' shape and dtype are those of every request.
        within: the smallest and the largest number that a request may hold. Needed for integers: an id that is not in the
            model's table would fail a whole group.

    Raises:
        MuxwrapError: the example is no tensor with rows, or ``within`` is missing or empty.
    """

    field = "input"
    media: tuple[str, ...] = ()

    def __init__(self, example: Any, within: tuple[float, float] | None = None) -> None:
        if not isinstance(example, Tensor) or example.ndim < 2:
            raise MuxwrapError(
                f"example_input={type(example).__name__}: rows are served as one tensor [rows, ...]; give such a tensor, or "
                "serve a module that takes one"
            )
        self.blank: np.ndarray = np.zeros(example.shape[1:], dtype=str(example.dtype).removeprefix("torch."))
        if within is None and self.blank.dtype.kind != "f":
            raise MuxwrapError(
                f"example_input is {example.dtype}: an id that the model has no row for would fail all requests of a group; "
                "give input_range=(0, the largest id)"
            )
        if within is not None and not within[0] < within[1]:
            raise MuxwrapError(f"input_range={within!r} has no number in it; give (smallest, largest)")
        self.within = within
        self.collate = partial(stack, name=self.field)
        self.schema: Mapping[str, Any] = {
            self.field: {"type": "array", "items": {}, "description": f"numbers of shape {list(self.blank.shape)}"}
        }

    def read(self, body: bytes, media: str) -> tuple[Row, Mapping[str, Any]]:
        """Return the row of a JSON body.

        Raises:
            RequestError: another shape, numbers that are not finite or out of the range, or no numbers at all.
        """
        fields = read_fields(body, self.field)
        try:
            given = np.asarray(fields[self.field])
        except ValueError:
            raise RequestError(422, f"'input' is ragged; send shape {list(self.blank.shape)}") from None
        kinds = "iu" if self.blank.dtype.kind in "iu" else "iuf"
        if given.size and given.dtype.kind not in kinds:
            raise RequestError(422, f"'input' holds {given.dtype}; send numbers of {self.blank.dtype}")
        if given.shape != self.blank.shape:
            raise RequestError(422, f"'input' has shape {list(given.shape)}; send shape {list(self.blank.shape)}")
        if (
            self.within is not None
            and given.size
            and not (self.within[0] <= given.min() <= given.max() <= self.within[1])
        ):
            raise RequestError(422, f"'input' holds numbers that are not within {list(self.within)}; send such")
        with np.errstate(over="ignore"):
            row = given.astype(self.blank.dtype)
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise RequestError(422, f"'input' holds numbers that are too large for {row.dtype}; send smaller ones")
        return {self.field: row}, fields

    def largest(self) -> Row:
        """Return a row of zeros, or of the smallest number allowed: all rows are of one size."""
        return {self.field: self.blank if self.within is None else np.full_like(self.blank, self.within[0])}
