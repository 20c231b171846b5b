"""A reader per format of rows.

A reader yields every row from a position on: the position where it begins, by which it is found again without reading what is
before; the values of the columns that are needed; and what is wrong with the row, or None.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from muxwrap.errors import MuxwrapError, known_names
from muxwrap.inference.optional import optional
from muxwrap.inference.rows import IMAGES

Found = tuple[int, dict[str, Any], str | None]
Reader = Callable[[Path, Sequence[str], int], Iterator[Found]]

LONGEST_FIELD = 2**31 - 1  # of a CSV file; Python's own limit is 131,072 characters


def _parquet(path: Path, columns: Sequence[str], start: int) -> Iterator[Found]:
    file = optional("pyarrow.parquet", "predict").ParquetFile(path)
    _check_columns(path, columns, file.schema_arrow.names)
    first = group = 0
    while group < file.num_row_groups and first + file.metadata.row_group(group).num_rows <= start:
        first += file.metadata.row_group(group).num_rows
        group += 1
    at = first
    for batch in file.iter_batches(1024, row_groups=list(range(group, file.num_row_groups)), columns=list(columns)):
        if at + len(batch) > start:
            skipped = max(start - at, 0)
            for number, values in enumerate(batch.slice(skipped).to_pylist()):
                yield at + skipped + number, values, None
        at += len(batch)


def _csv(path: Path, columns: Sequence[str], start: int) -> Iterator[Found]:
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open("rb") as file:
        lines = _Lines(file)
        header = next(csv.reader(lines, delimiter=delimiter), [])
        _check_columns(path, columns, header)
        if start:
            file.seek(start)
            lines.position = start
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            position = lines.position
            fields = next(reader, None)
            if fields is None:
                return
            if fields:
                values = dict(zip(header, fields, strict=False))
                problem = None if len(fields) == len(header) else f"{len(fields)} fields, the header has {len(header)}"
                yield position, {name: values[name] for name in columns if name in values}, problem


def _json_lines(path: Path, columns: Sequence[str], start: int) -> Iterator[Found]:
    seen: set[str] = set()
    with path.open("rb") as file:
        file.seek(start)
        lines = _Lines(file, start)
        position = start
        for line in lines:
            if line.strip():
                values, problem = _json_object(line)
                seen.update(values)
                yield position, {name: values[name] for name in columns if name in values}, problem
            position = lines.position
    if not start:
        _check_columns(path, columns, sorted(seen))


def _json_object(line: str) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(line)
    except ValueError as error:
        return {}, f"not JSON: {error}"
    return (value, None) if isinstance(value, dict) else ({}, f"a JSON {type(value).__name__}, not an object")


def _image(path: Path, columns: Sequence[str], start: int) -> Iterator[Found]:
    _check_columns(path, columns, ["image"])
    yield 0, {"image": str(path)}, None


class _Lines:
    """The lines of a file as text, and where the next one begins."""

    def __init__(self, file: Any, position: int = 0) -> None:
        self.file, self.position = file, position

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line: bytes = next(self.file)
        text = line.decode("utf-8-sig" if self.position == 0 else "utf-8")
        self.position += len(line)
        return text


def _check_columns(path: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    for name in columns:
        if list(names).count(name) != 1:
            what = "two columns" if name in names else "no column"
            raise MuxwrapError(
                f"predict: {path} has {what} {name!r}; name another, or other files. {known_names(name, names)}"
            )


READERS: dict[str, Reader] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    **dict.fromkeys(IMAGES, _image),
}
"""By the ending of a file's name."""
