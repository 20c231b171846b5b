"""Reading the rows of files, whole or from a position on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from muxwrap.errors import MuxwrapError
from muxwrap.inference.readers import READERS
from muxwrap.inference.rows import Cut, File, Row


def read(cut: Cut, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a cut.

    Raises:
        MuxwrapError: there are fewer by now.
    """
    found = islice(READERS[cut.file.path.suffix.lower()](cut.file.path, columns, cut.position), cut.rows)
    rows = [Row(cut.file, cut.first + at, values, problem) for at, (_, values, problem) in enumerate(found)]
    if len(rows) < cut.rows:
        raise MuxwrapError(
            f"predict: {cut.file.path} has fewer rows than when it was first read; leave the inputs as they are until the "
            "answers are whole, and begin again with another out="
        )
    return rows


def scan(file: File, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Yield every row of a file with its position.

    Raises:
        MuxwrapError: the file cannot be read, or lacks a column.
    """
    try:
        for number, (position, values, problem) in enumerate(READERS[file.path.suffix.lower()](file.path, columns, 0)):
            yield position, Row(file, number, values, problem)
    except MuxwrapError:
        raise
    except Exception as error:  # each library has its own
        raise MuxwrapError(
            f"predict: {file.path} cannot be read ({type(error).__name__}: {error}); repair it, or leave it out"
        ) from error
