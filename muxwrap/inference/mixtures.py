"""Which rows share a mixture: those of like length, and never two of different groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Mark:
    """What is asked of a row to place it.

    Args:
        row: its number in the part.
        shape: rows of different shapes are in different batches.
        apart: rows of different values are in different mixtures.
        length: rows of like length share mixtures.
    """

    row: int
    shape: Hashable
    apart: Hashable
    length: int


@dataclass(frozen=True)
class Mixture:
    """Rows that share a mixture, n of them.

    Args:
        rows: their numbers.
        own: how many of them are answered here; those behind are filling, and are answered elsewhere or before.
        shape: of all rows.
        length: of the longest row.
    """

    rows: tuple[int, ...]
    own: int
    shape: Hashable
    length: int


def batches(marks: Sequence[Mark], n: int, rows: int) -> list[list[Mixture]]:
    """Deal rows to mixtures and mixtures to batches, the longest first; a function of the arguments alone.

    Args:
        marks: a mark for every row.
        n: rows of a mixture.
        rows: of a batch, a multiple of n.

    Returns:
        Batches of at most ``rows / n`` mixtures of one shape. Every row is an own row of one mixture.
    """
    by_kind: dict[Hashable, list[Mark]] = {}
    for mark in marks:
        by_kind.setdefault((mark.shape, mark.apart), []).append(mark)
    mixtures = [mixture for alike in by_kind.values() for mixture in _mixtures(alike, n)]
    shapes = {shape: at for at, shape in enumerate(dict.fromkeys(mixture.shape for mixture in mixtures))}
    mixtures.sort(key=lambda mixture: (shapes[mixture.shape], -mixture.length))  # stable
    found = []
    for _, alike in groupby(mixtures, key=lambda mixture: mixture.shape):
        of_shape = list(alike)
        found += [of_shape[at : at + rows // n] for at in range(0, len(of_shape), rows // n)]
    return found


def _mixtures(marks: list[Mark], n: int) -> list[Mixture]:
    """Deal rows that may share mixtures; the last mixture is filled with the rows before it, or with its own again.

    Real rows keep a mixture in the distribution that the trunk was trained on, and those before it are of like length.
    """
    order = sorted(marks, key=lambda mark: -mark.length)  # stable
    found = []
    for start in range(0, len(order), n):
        own = order[start : start + n]
        filling = [order[(start - 1 - at) % len(order)] for at in range(n - len(own))]
        rows = tuple(mark.row for mark in (*own, *filling))
        found.append(Mixture(rows, len(own), own[0].shape, max(mark.length for mark in (*own, *filling))))
    return found
