"""How many layers are kept, and after which of them is mixed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.blocks import Blocks
from muxwrap.frontiers.registry import Subject


def depths(subject: Subject, layers: Iterable[int] | None, at: Iterable[Any] | None) -> tuple[Any, ...]:
    """Return the layers to keep and the places to mix at, the usual ones where none are named.

    Raises:
        MuxwrapError: layers of a model without a list of them, a number that is none of them, or fewer than have to stay.
    """
    blocks = subject.blocks
    if blocks is None:
        if layers is not None or any(isinstance(each, int) for each in at or ()):
            raise MuxwrapError(
                f"frontier(layers={layers!r}, at={at!r}): no list of layers found in {type(subject.model).__name__}; leave "
                "layers= out, and name modules in at="
            )
        return (), tuple(at) if at is not None else (None,)
    total = len(blocks.paths)
    kept = _usual_layers(blocks) if layers is None else tuple(sorted(set(layers), reverse=True))
    third, half = max(1, round(total / 3)), max(1, total // 2)
    places = (tuple(dict.fromkeys((third, half))) if blocks.tokens else (None,)) if at is None else tuple(at)
    for argument, numbers in (("layers", kept), ("at", [each for each in places if isinstance(each, int)])):
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= total:
                raise MuxwrapError(
                    f"frontier({argument}={number!r}): {type(subject.model).__name__} has {total} layers; give whole numbers "
                    f"from 1 to {total}"
                )
    for count in kept:
        blocks.kept(count)
    return kept, places


def _usual_layers(blocks: Blocks) -> tuple[int, ...]:
    total = len(blocks.paths)
    asked = sorted({max(1, round(total * share)) for share in (1, 2 / 3, 1 / 2, 1 / 3)}, reverse=True)
    least = total - len(blocks.spare)
    return tuple(count for count in asked if count >= max(1, least))
