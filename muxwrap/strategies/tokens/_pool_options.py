"""The options of ``pool``, checked."""

from __future__ import annotations

from collections.abc import Sequence

from muxwrap.errors import MuxwrapError


def check_grid(grid: Sequence[int]) -> tuple[int, int]:
    """Return height and width.

    Raises:
        MuxwrapError: not two whole numbers of 1 or more.
    """
    if len(grid) != 2:
        raise MuxwrapError(f"pool(grid={grid!r}): give the height and width in patches")
    return check_whole("grid", grid[0], 1), check_whole("grid", grid[1], 1)


def check_again(again: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Return pairs (layers, neighbours), the layers rising.

    Raises:
        MuxwrapError: anything else.
    """
    pairs = [tuple(each) if isinstance(each, (tuple, list)) else () for each in again] if _is_listed(again) else [()]
    if any(len(each) != 2 for each in pairs):
        raise MuxwrapError(f"pool(again={again!r}): give pairs of layers and neighbours, such as again=((2, 2),)")
    found = tuple((check_whole("again", k, 1), check_whole("again", size, 2)) for k, size in pairs)
    if list(found) != sorted(dict(found).items()):
        raise MuxwrapError(f"pool(again={again!r}): name every layer once, in order, such as again=((1, 2), (3, 2))")
    return found


def _is_listed(value: object) -> bool:
    return isinstance(value, (tuple, list))


def check_whole(argument: str, value: object, least: int) -> int:
    """Return a whole number.

    Raises:
        MuxwrapError: it is none, or below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise MuxwrapError(f"pool({argument}={value!r}): give whole numbers of {least} or more")
    return value
