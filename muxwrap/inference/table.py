"""Answers as a table of Parquet, written whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muxwrap.inference.answers import Answer
from muxwrap.inference.optional import optional

TEMPORARY = ".writing-"


def table(keys: Sequence[str], answers: Sequence[Answer | str]) -> Any:
    """Return a ``pyarrow.Table`` of a row per key: ``key``, a column per answer, and ``error``, null where there is none.

    A text instead of an answer is an error; all answers of its row are null.
    """
    arrow = optional("pyarrow", "predict")
    names = dict.fromkeys(name for answer in answers if not isinstance(answer, str) for name in answer)
    columns = {"key": arrow.array(keys, arrow.string())}
    for name in names:
        columns[name] = _column([None if isinstance(answer, str) else answer[name] for answer in answers], arrow)
    errors = [_encodable(answer) if isinstance(answer, str) else None for answer in answers]
    return arrow.table({**columns, "error": arrow.array(errors, arrow.string())})


def write(made: Any, path: Path) -> None:
    """Write a table under a name of its own and give it the right one when it is whole."""
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    optional("pyarrow.parquet", "predict").write_table(made, temporary)
    temporary.replace(path)


def complete(paths: Sequence[Path]) -> None:
    """Give every file the columns of all: one whose rows are all errors has no answers to know them from."""
    parquet, arrow = optional("pyarrow.parquet", "predict"), optional("pyarrow", "predict")
    schemas = {path: parquet.read_schema(path) for path in paths}
    widest = max(schemas.values(), key=len)
    for path, schema in schemas.items():
        if len(schema) < len(widest):
            found = parquet.read_table(path)
            columns = {
                each.name: found[each.name] if each.name in schema.names else arrow.nulls(len(found), each.type)
                for each in widest
            }
            write(arrow.table(columns, schema=widest), path)


def rows_of(path: Path) -> int | None:
    """Return how many rows a file holds, or None where it is not there or not whole."""
    try:
        rows: int = optional("pyarrow.parquet", "predict").read_metadata(path).num_rows
    except (OSError, ValueError):  # pyarrow's own errors are ValueErrors
        return None
    return rows


def errors_of(path: Path) -> int:
    """Return how many rows of a file have an error."""
    errors = optional("pyarrow.parquet", "predict").read_table(path, columns=["error"])["error"]
    return len(errors) - int(errors.null_count)


def _column(values: Sequence[Any], arrow: Any) -> Any:
    kind = _type(next(value for value in values if value is not None), arrow)
    return arrow.array([_nested(value) for value in values], kind)


def _type(value: Any, arrow: Any) -> Any:
    if isinstance(value, (str, list)):
        return arrow.string() if isinstance(value, str) else arrow.list_(arrow.string())
    kind = arrow.from_numpy_dtype(value.dtype)
    for _ in range(value.ndim):
        kind = arrow.list_(kind)
    return kind


def _nested(value: Any) -> Any:
    """Return what pyarrow takes: arrays of more than one axis as lists of arrays."""
    return [_nested(part) for part in value] if isinstance(value, np.ndarray) and value.ndim > 1 else value


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
