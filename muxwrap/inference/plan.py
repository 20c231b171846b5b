"""Which rows make which part: decided before anything is written, from the input alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from muxwrap.errors import MuxwrapError
from muxwrap.inference.formats import read, scan
from muxwrap.inference.rows import IMAGES, Cut, File, Row

SAMPLE = 8  # rows by which an encoder is known again


@dataclass(frozen=True)
class Part:
    """Rows that are answered and written together.

    Args:
        number: from 0, in the order of the input.
        cuts: where the rows are.
    """

    number: int
    cuts: tuple[Cut, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(cut.rows for cut in self.cuts)

    @property
    def name(self) -> str:
        """The name of the file of answers."""
        return f"part-{self.number:05d}.parquet"

    def read(self, columns: Sequence[str]) -> list[Row]:
        """Read the rows.

        Raises:
            MuxwrapError: a file has changed.
        """
        return [row for cut in self.cuts for row in read(cut, columns)]


@dataclass
class Plan:
    """All parts, and by what the input is known again.

    Args:
        parts: in the order of the input.
        digest: of the names of the files and of all values that are read; of an image its size only.
        sample: the first rows.
    """

    parts: list[Part] = field(default_factory=list)
    digest: str = ""
    sample: list[Row] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.rows for part in self.parts)


def make_plan(files: Iterable[File], columns: Sequence[str], key: str | None, size: int) -> Plan:
    """Read all files once and cut them into parts of ``size`` rows; a part may span files.

    Raises:
        MuxwrapError: a file cannot be read or lacks a column, a row has no key, two have the same, or there is no row.
    """
    plan, digest = Plan(), hashlib.sha256()
    keys: set[str] = set()
    cuts: list[Cut] = []
    for file in files:
        positions = []
        for position, row in scan(file, columns):
            positions.append(position)
            digest.update(repr((file.name, row.number, _seen(row))).encode())
            if len(plan.sample) < SAMPLE:
                plan.sample.append(row)
            if key is not None:
                keys.add(_new_key(row, key, keys))
        first = 0
        while first < len(positions):
            taken = min(size - sum(cut.rows for cut in cuts), len(positions) - first)
            cuts.append(Cut(file, first, taken, positions[first]))
            first += taken
            if sum(cut.rows for cut in cuts) == size:
                plan.parts.append(Part(len(plan.parts), tuple(cuts)))
                cuts = []
    if cuts:
        plan.parts.append(Part(len(plan.parts), tuple(cuts)))
    if not plan.parts:
        raise MuxwrapError("predict: the inputs hold no row; give files that do")
    plan.digest = digest.hexdigest()
    return plan


def _seen(row: Row) -> object:
    """Return what of a row is in the digest."""
    return row.file.path.stat().st_size if row.file.path.suffix.lower() in IMAGES else (row.values, row.problem)


def _new_key(row: Row, column: str, keys: set[str]) -> str:
    found = row.key(column)
    place = f"row {row.number} of {row.file.path}"
    if found is None:
        raise MuxwrapError(
            f"predict(key={column!r}): {place} has no key; fill the column, or leave key= out: keys are then made of "
            "file and row"
        )
    if found in keys:
        raise MuxwrapError(
            f"predict(key={column!r}): {found!r} is the key of {place} and of an earlier row; name a column whose values "
            "differ, or leave key= out: keys are then made of file and row"
        )
    return found
