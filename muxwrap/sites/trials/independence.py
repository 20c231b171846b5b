"""Whether the rows of a bare model are independent, which those that share a mixture have to be.

One row of a call is changed, and the answers to the other one are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import ROWS, Example, quiet, run
from muxwrap._util.nested import first_tensor
from muxwrap._util.quantised import QUANTISED, ROUNDING, layer_from
from muxwrap.errors import MuxwrapError
from muxwrap.sites.runs.dry_run import answers
from muxwrap.sites.runs.rounding import distance
from muxwrap.sites.runs.rows import OWN, dependent, nearly_alike, nudge
from muxwrap.sites.runs.runs import BARE_ROWS, Answers, Runs

RowAxis = Callable[[int, Tensor, Tensor, int], "int | None"]


def check_independent(runs: Runs, row_axis: RowAxis) -> None:
    """Take copies for the other row of the bare run, and compare the answers to the row that stayed.

    Args:
        runs: of the backbone, with another row.
        row_axis: finds the axis of rows of an answer, see :class:`~muxwrap.sites.trials.matching.Matching`.

    Raises:
        MuxwrapError: rows depend on each other.
    """
    before, alike = runs.take_copies()
    _compare(runs, runs.pair, before, alike, row_axis)


def check_neighbours(runs: Runs, row_axis: RowAxis) -> None:
    """Compare the answers to the row that stays beside one that is nearly the same with those beside a copy.

    Where rows look for each other by large products, a row finds no other one but that.

    Args:
        runs: of the backbone.
        row_axis: see :func:`check_independent`.

    Raises:
        MuxwrapError: rows depend on each other.
    """
    if runs.has_pair:
        _compare(runs, nearly_alike(runs.pair), None, runs.bare(False, BARE_ROWS), row_axis, partial(_nudged, runs))


@contextmanager
def _nudged(runs: Runs) -> Iterator[None]:
    """Move the other row where modules make floats of ids."""
    read = ((visit.module, visit.input) for visit in runs.trace.visits if visit.leaf)
    readers = {module for module, given in read if given is not None and not given.floating}
    handles = [module.register_forward_hook(nudge) for module in readers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compare(
    runs: Runs,
    pair: Example,
    beside: Answers | None,
    alike: Answers,
    row_axis: RowAxis,
    moving: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Refuse answers to the row that stays which differ beside another row; noise is told apart by the same call once more.

    Layers that quantise what they are given do so for all rows at once.

    Args:
        runs: of the backbone.
        pair: another row, and the row that stays.
        beside: what is answered to it; None to ask.
        alike: what is answered to the row twice.
        row_axis: see :func:`check_independent`.
        moving: in which the pair is run.
    """

    def ask() -> Answers:
        with moving():
            return answers(runs.backbone, pair, BARE_ROWS, scores=runs.scored)

    beside = ask() if beside is None else beside
    if isinstance(beside, str) or isinstance(alike, str) or len(beside) != len(alike):
        return
    quantised = layer_from(runs.backbone, *QUANTISED, ROUNDING) is not None
    least = 0.05 if quantised else 1e-10 if all(each.dtype == torch.float64 for each in alike) else 1e-5
    moved = _moved(beside, alike, row_axis, least)
    if moved <= least:
        return
    again = ask()
    noise = 0.0 if isinstance(again, str) or len(again) != len(beside) else _moved(beside, again, row_axis, 0.0)
    if moved > least + 10 * noise:
        with moving():
            apart = _second_rows(runs.backbone, pair)
        path = _meeting_place(apart, _second_rows(runs.backbone, runs.call(False, BARE_ROWS)))
        raise MuxwrapError(dependent(runs.backbone, moved, path))


def _moved(beside: list[Tensor], alike: list[Tensor], row_axis: RowAxis, least: float) -> float:
    """Return how far the answers to the row that stays are apart, relative to the largest; what is below ``least`` is zero."""
    far = 0.0
    for at, (a, b) in enumerate(zip(beside, alike, strict=True)):
        if distance(a, b) <= least or (a.shape[:1] == (BARE_ROWS,) and distance(a[OWN], b[OWN]) <= least):
            continue
        axis = row_axis(at, a, b, ROWS)
        if axis is not None:
            far = max(far, distance(a.select(axis, OWN), b.select(axis, OWN)))
    return far


_Passed = list[tuple[str, Tensor | None, Tensor | None]]


def _meeting_place(apart: _Passed, alike: _Passed) -> str | None:
    """Return the first module to be left that is given the same second row in two calls and makes another one of it."""
    for (path, given, made), (_, given_too, made_too) in zip(apart, alike, strict=False):
        if _same(given, given_too) and not _same(made, made_too):
            return path
    return None


def _second_rows(backbone: nn.Module, call: Any) -> _Passed:
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
    return found


def _second(value: Any) -> Tensor | None:
    tensor = first_tensor(value)
    return None if tensor is None or tensor.shape[0] != 2 else tensor[OWN].detach().clone()


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a, b) if not a.is_floating_point() else distance(a, b) <= 1e-6
