"""Rows of a bare model, which have to be independent where they share a mixture: another one, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from muxwrap._util.examples import Example

OWN = 1
"""The row that stays in :func:`another_beside`. The one before it is changed: recurrent layers over rows look back."""


def another_beside(example: Example) -> Example:
    """Return a call of two rows: another one, and the example's first one.

    The other one is the example's second one, or the first one backwards, which keeps to the values that the model knows;
    floats go a part of the way to it only. Where rows look for each other (attention over the batch, nearest neighbours), one
    hardly looks at a row that is far away.
    """
    of_rows = example.tensors_with_rows()
    second = 1 % max(1, len(of_rows[0]))
    if any(not torch.equal(value[second], value[0]) for value in of_rows):
        return _pair(example, lambda value: value[second] if value.ndim > 1 else _another(value, second))
    turned = [_backwards(value[0]) for value in of_rows]
    if all(torch.equal(row, value[0]) for row, value in zip(turned, of_rows, strict=True)):
        return _pair(example, lambda value: _moved(value[0]) if value is of_rows[0] else value[0])
    return _pair(example, lambda value: _backwards(value[0]))


def _pair(example: Example, other: Callable[[Tensor], Tensor]) -> Example:
    """Return the example with two rows in its tensors of rows: what ``other`` makes of the tensor, and the first one."""
    return example.map_rows(lambda value: torch.stack([_near(value[0], other(value)), value[0]]))


def _near(row: Tensor, other: Tensor) -> Tensor:
    return torch.lerp(row, other, PART) if row.is_floating_point() else other


PART = 0.3
"""How far the other row is from the row itself, to where it would be far away."""


def nearly_alike(pair: Example) -> Example:
    """Return a pair of :func:`another_beside` with the other row nearly as the row that stays.

    Floats go a small part of the way to the other row, and everything else is that of the row itself; see :func:`nudge`.
    """
    return pair.map_rows(_nearer)


def nudge(_module: nn.Module, _args: object, output: object) -> Tensor | None:
    """Move the other row of a pair a little where a layer makes floats of ids, which are not nearly another's; a hook."""
    if not isinstance(output, Tensor) or output.shape[:1] != (2,) or not output.is_floating_point():
        return None
    # Not by one factor for all features, which a norm behind would take away.
    slope = torch.linspace(1 - SMALL_PART, 1 + SMALL_PART, output.shape[-1], device=output.device)
    return torch.stack([output[0] * slope.to(output), output[OWN]])


SMALL_PART = 0.01
"""How far that row is: so near that products of a few hundreds do not hide it, and far enough to be no rounding."""


def _nearer(pair: Tensor) -> Tensor:
    own = pair[OWN]
    return torch.stack([torch.lerp(own, pair[0], SMALL_PART) if own.is_floating_point() else own, own])


def _backwards(row: Tensor) -> Tensor:
    """Return a row turned around along the first axis where that changes it.

    Features are made smaller, too: means and maxima of a row that is only turned are the same.
    """
    if not row.ndim:
        return _shorter(row)
    turned = next((each for axis in range(row.ndim) if not torch.equal(each := row.flip(axis), row)), row)
    return turned * _SMALLER if row.is_floating_point() and len(row.unique()) > 2 else turned


_SMALLER = 0.8


def _another(value: Tensor, second: int) -> Tensor:
    """Return one number for another row that is not that of the first: lengths, which are told apart only where they differ."""
    return _shorter(value[0]) if torch.equal(value[0], value[second]) else value[second]


def _shorter(number: Tensor) -> Tensor:
    """Return another number for one of a row: a length, a step, a class, that there is."""
    if number.is_floating_point():
        return _moved(number)
    return number if number.dtype == torch.bool or bool(number <= 1) else number - 1


def _moved(row: Tensor) -> Tensor:
    """Return another row for one whose numbers are all the same: of ids, one that there is."""
    if row.is_floating_point():
        return row / 2 + 0.25
    return row if row.dtype == torch.bool else (row - 1).clamp(min=0)


# -- what is said -----------------------------------------------------------------------------------------------------


def dependent(backbone: nn.Module, moved: float, path: str | None) -> str:
    """Return that the answers to a row depend on the other rows, and where they meet first.

    Args:
        backbone: bare.
        moved: how far the answers to a row moved when another one was changed, relative to the largest.
        path: of the first module that is given the same row, and makes another one of it.
    """
    module = None if path is None else backbone.get_submodule(path)
    where = f", first in {path!r} ({type(module).__name__})" if path else ""
    return (
        f"the rows of {type(backbone).__name__} depend on each other: another row was changed, and the answers to a row moved "
        f"by {moved:.1%} of the largest{where}. Rows that share a mixture have to be independent; {_way_out(module)}"
    )


def square(backbone: nn.Module, shape: tuple[int, ...]) -> str:
    """Return that an answer compares the rows with each other; ``shape`` is that of two rows."""
    return (
        f"the rows of {type(backbone).__name__} depend on each other: 2 rows get an answer {list(shape)} that has an axis of "
        "rows twice, so each row is compared with the others. Wrap the part that makes one embedding per row, and compare "
        "its answers outside"
    )


def no_rows(backbone: nn.Module, shapes: list[tuple[int, ...]], rows: int) -> str:
    """Return that no answer has the call's rows; ``shapes`` are those of the answers."""
    found = ", ".join(str(list(shape)) for shape in shapes) or "no floats"
    return (
        f"the rows of {type(backbone).__name__} do not come back: {rows} rows in, {found} out. The first axis has to be that "
        "of rows, in the call and in an answer: give sequences as [rows, length, features], not time first, and answer per "
        "row; where the model makes a text, a number or a list of every row, let it return the one tensor that they are made of"
    )


def part_of_one(backbone: nn.Module, rows: int, others: str, why: str) -> str:
    """Return that a call runs with its own number of rows only, and not with others: nodes of a graph, for example."""
    return (
        f"{type(backbone).__name__} runs on {rows} rows of the example and not on {others} ({why}), so they depend on "
        "each other or on another argument that counts on them: nodes and the edges between them, offsets, a list of one "
        "tensor a row, a state [layers, rows, features]. Parts of one input cannot share mixtures: give a call that holds "
        "several inputs along the first axis of each tensor (a list stacked, a state transposed), and one answer for each, or "
        "wrap the part that is given rows alone"
    )


def _way_out(module: nn.Module | None) -> str:
    if getattr(module, "batch_first", True) is False:
        return "make it with batch_first=True, which reads [rows, length, features]"
    if getattr(module, "track_running_stats", True) is False:
        return "make it with track_running_stats=True, which normalises by fixed statistics in evaluation mode"
    return "make the first axis that of rows and the model one that answers each row alone, or wrap the part that does"
