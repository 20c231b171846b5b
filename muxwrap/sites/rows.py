"""Whether the rows of a bare model are independent, which those that share a mixture have to be.

One row of a call is changed, and the answers to the other one are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import quiet, run
from muxwrap._util.nested import first_tensor, map_tensors, tensors_in
from muxwrap.sites.rounding import distance

OWN = 1
"""The row that stays in :func:`another_beside`. The one before it is changed: recurrent layers over rows look back."""


def another_beside(example: Any) -> Any:
    """Return a call of two rows: another one, and the example's first one.

    The other one is the example's second one, or the first one backwards, which keeps to the values that the model knows.
    """
    first = first_tensor(example)
    rows = 0 if first is None else first.shape[0]
    of_rows = [value for value in tensors_in(example) if value.ndim and value.shape[0] == rows]
    second = 1 % max(rows, 1)
    if any(not torch.equal(value[second], value[0]) for value in of_rows):
        return _pair(example, of_rows, lambda value: value[second])
    turned = [_backwards(value[0]) for value in of_rows]
    if all(torch.equal(row, value[0]) for row, value in zip(turned, of_rows, strict=True)):
        return _pair(example, of_rows, lambda value: _moved(value[0]) if value is of_rows[0] else value[0])
    return _pair(example, of_rows, lambda value: _backwards(value[0]))


def _pair(example: Any, of_rows: list[Tensor], other: Callable[[Tensor], Tensor]) -> Any:
    """Return the example with two rows in its tensors of rows: what ``other`` makes of the tensor, and the first one."""

    def two(value: Tensor) -> Tensor:
        return torch.stack([other(value), value[0]]) if any(value is each for each in of_rows) else value

    return map_tensors(example, two)


def _backwards(row: Tensor) -> Tensor:
    """Return a row turned around along the first axis where that changes it."""
    turned = (row.flip(axis) for axis in range(row.ndim))
    return next((each for each in turned if not torch.equal(each, row)), row)


def _moved(row: Tensor) -> Tensor:
    """Return another row for one whose numbers are all the same: of ids, one that there is."""
    if row.is_floating_point():
        return row / 2 + 0.25
    return row if row.dtype == torch.bool else (row - 1).clamp(min=0)


# -- what is said -----------------------------------------------------------------------------------------------------


def dependent(backbone: nn.Module, apart: Any, alike: Any, moved: float) -> str:
    """Return that the answers to a row depend on the other rows, and where they meet first.

    Args:
        backbone: bare.
        apart: a call of two rows, of which the first one was changed.
        alike: the call before.
        moved: how far the answers to the second row moved, relative to the largest.
    """
    path = _meeting_place(backbone, apart, alike)
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
        "of rows, in the call and in an answer: give sequences as [rows, length, features], not time first, and answer per row"
    )


def part_of_one(backbone: nn.Module, rows: int, why: str) -> str:
    """Return that a call runs with its own number of rows only: nodes of a graph, for example."""
    return (
        f"{type(backbone).__name__} runs on the example's {rows} rows and not on 2 of them ({why}), so they depend on each "
        "other or on another argument that counts on them: nodes and the edges between them, for example. Parts of one input "
        "cannot share mixtures: only a model whose call holds several inputs along the first axis can be multiplexed"
    )


def _way_out(module: nn.Module | None) -> str:
    if getattr(module, "batch_first", True) is False:
        return "with batch_first=True it reads [rows, length, features]"
    if getattr(module, "track_running_stats", True) is False:
        return "with track_running_stats=True it normalises by fixed statistics in evaluation mode"
    return "make the first axis that of rows and the model one that answers each row alone, or wrap the part that does"


# -- where ------------------------------------------------------------------------------------------------------------


def _meeting_place(backbone: nn.Module, apart: Any, alike: Any) -> str | None:
    """Return the first module to be left that is given the same second row in two calls and makes another one of it."""
    both = [list(_second_rows(backbone, call)) for call in (apart, alike)]
    for (path, given, made), (_, given_too, made_too) in zip(*both, strict=False):
        if _same(given, given_too) and not _same(made, made_too):
            return path
    return None


def _second_rows(backbone: nn.Module, call: Any) -> Iterator[tuple[str, Tensor | None, Tensor | None]]:
    """Run a backbone and return the second row of what every module was given and made, in the order of leaving."""
    names = {module: path for path, module in backbone.named_modules()}
    entered: list[tuple[nn.Module, Tensor | None]] = []
    found: list[tuple[str, Tensor | None, Tensor | None]] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        entered.append((module, _second((args, kwargs))))

    def leave(module: nn.Module, _args: Any, output: Any) -> None:
        while entered and entered[-1][0] is not module:
            entered.pop()
        if entered:
            found.append((names[module], entered.pop()[1], _second(output)))

    handles = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    try:
        with quiet(backbone):
            torch.manual_seed(0)
            run(backbone, call)
    finally:
        for handle in handles:
            handle.remove()
    return iter(found)


def _second(value: Any) -> Tensor | None:
    tensor = first_tensor(value)
    return None if tensor is None or tensor.shape[0] != 2 else tensor[OWN].detach().clone()


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a, b) if not a.is_floating_point() else distance(a, b) <= 1e-6
