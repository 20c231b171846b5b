"""What a server takes: a request's body becomes a row of arrays, and rows become the arguments of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

Row = Mapping[str, np.ndarray]
"""One row of a batch: its arrays by name. Arrays, since they go from process to process."""
Collate = Callable[[Sequence[Row]], tuple[tuple[Any, ...], dict[str, Any]]]
"""Rows to the arguments and keyword arguments of the model's call."""


class Inputs(Protocol):
    """A kind of input: text, images or arrays.

    Attributes:
        field: of the JSON that the input is in.
        schema: of the field and its optional neighbours, for the OpenAPI page.
        media: other content types that a body may have, which is then the input itself.
        collate: rows to a call's arguments; it can be pickled.
    """

    field: str
    media: tuple[str, ...]

    @property
    def schema(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def collate(self) -> Collate: ...  # noqa: D102

    def read(self, body: bytes, media: str) -> tuple[Row, Mapping[str, Any]]:
        """Return the row that a body holds, and the fields beside it.

        Raises:
            RequestError: the body is refused.
        """

    def largest(self) -> Row:
        """Return a row as large as any that :meth:`read` returns: what fails with it would fail a group."""


def stack(rows: Sequence[Row], name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Collate arrays of equal shapes into the call's first argument: ``[rows, ...]``."""
    return (torch.from_numpy(np.stack([row[name] for row in rows])),), {}
