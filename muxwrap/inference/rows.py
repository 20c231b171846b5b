"""A row of an input file, and where rows lie in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class File:
    """A file of rows.

    Args:
        path: absolute.
        name: relative to what all inputs share; it stands in made keys.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Cut:
    """Consecutive rows of one file.

    Args:
        file: where they are.
        first: number of the first one, from 0.
        rows: how many.
        position: where the first one begins, as the format's reader counts: bytes, or rows.
    """

    file: File
    first: int
    rows: int
    position: int


@dataclass(frozen=True)
class Row:
    """A row, or what is wrong with it.

    Args:
        file: where it is.
        number: in the file, from 0.
        values: of the columns that are needed, as far as the row has them.
        problem: why nothing can be made of it; None where something can.
    """

    file: File
    number: int
    values: Mapping[str, Any]
    problem: str | None = None

    def key(self, column: str | None) -> str | None:
        """Return the key: a column's value as text, or made of file and number; None where the column has no value."""
        if column is not None:
            value = self.values.get(column)
            return None if missing(value) else str(value)
        return self.file.name if self.file.path.suffix.lower() in IMAGES else f"{self.file.name}:{self.number}"


def missing(value: Any) -> bool:
    """Whether a value stands for none: null, an empty text or NaN."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are one row each, whose column ``image`` is the file."""
