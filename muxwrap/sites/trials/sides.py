"""What modules between the sites are given of the rows besides what is mixed, and what it says: found by trying."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from muxwrap._util.examples import ROWS, Example, quiet, run, with_rows
from muxwrap._util.meta import on_meta
from muxwrap._util.nested import named_arguments
from muxwrap.site import SideInput, SideKind, Site
from muxwrap.sites.tracing.resolve import mixed_at
from muxwrap.sites.tracing.trace import Seen, Trace, Visit
from muxwrap.sites.trials.side_kind import kind_of


class Sides:
    """Finds the side inputs of the modules that run between sites.

    What a tensor says is tried once: layers of a kind that get the same tensor as the same argument read it alike.

    Args:
        backbone: left as it is.
        trace: of a run of it.
        example: a call of it.
    """

    def __init__(self, backbone: nn.Module, trace: Trace, example: Example) -> None:
        self.backbone, self.trace, self.example = backbone, trace, example
        self._known: dict[object, tuple[SideKind, str | None] | None] = {}

    def between(self, mux: tuple[Site, ...], demux: tuple[Site, ...], whole: bool = False) -> tuple[SideInput, ...]:
        """Return the side inputs of the modules between where instances are mixed and where mixtures are separated.

        With ``whole``, those of the backbone itself instead, where its own input is mixed: what it reads between its modules.
        """
        if on_meta(self.backbone):  # what a tensor says shows in values
            return ()
        rows = _rows(self.trace)
        sides = [
            _side(self.trace, visit, argument, *found, mux)
            for visit in ([self.trace.visits[0]] if whole else _pieces(self.trace, mux, demux))
            for argument in _of_rows(self.trace, visit, mux)
            if (found := self._found(visit, argument)) is not None
            and (found[1] or visit.given[argument].shape[0] == rows)
        ]
        return tuple(dict.fromkeys(sides))

    def _found(self, visit: Visit, argument: str) -> tuple[SideKind, Seen | None] | None:
        """Return what an argument says, and of which sequence: a module that shows nothing may hand it on to one that does."""
        inside = (v for v in self.trace.visits if visit.entered <= v.entered and v.left <= visit.left)
        handed = ((v, name) for v in inside for name, seen in v.given.items() if seen is visit.given[argument])
        kinds = ((v, self._kind(v, name)) for v, name in handed)
        shown = ((kind[0], v.given[kind[1]]) for v, kind in kinds if kind is not None and kind[1] is not None)
        own = self._kind(visit, argument)
        return next(shown, None if own is None else (own[0], None))

    def _kind(self, visit: Visit, argument: str) -> tuple[SideKind, str | None] | None:
        seen = visit.given[argument]
        if seen.constant and seen is visit.input:
            return "constant", None
        key = type(visit.module), tuple(visit.given), argument, id(seen)
        if key not in self._known:
            call = _call_of(self.backbone, visit, with_rows(self.example, ROWS))
            grows = call is not None and _grows(seen.shape[0] / _rows(self.trace), named_arguments(*call)[argument])
            found = kind_of(visit.module, *call, argument) if call is not None and grows else None
            self._known[key] = ("constant", None) if found == ("same", None) and seen.constant else found
        return self._known[key]


def _pieces(trace: Trace, mux: tuple[Site, ...], demux: tuple[Site, ...]) -> Iterator[Visit]:
    """Yield the outermost modules that begin after the first mixing and end before the first separation."""
    mixed = [v.entered if site.side == "input" else v.left for site, v in _visits(trace, mux) if v is not None]
    begin = min(mixed, default=None)
    last = trace.at(demux[0].path)
    if begin is None or last is None:
        return
    end = last.entered if demux[0].side == "input" else last.left
    inside = -1
    for visit in trace.visits:
        if begin <= visit.entered and visit.entered > inside and visit.left <= end:
            inside = visit.left
            yield visit


def _of_rows(trace: Trace, visit: Visit, mux: tuple[Site, ...]) -> list[str]:
    """Return the arguments of a visit that have rows and were not made by the trunk, without that which is mixed.

    What a module is given first is taken for that, unless all rows of it are the same. A mask may be there for every head.
    """
    rows = _rows(trace)
    first, mixed = trace.at(mux[0].path), [mixed_at(trace, site) for site in mux]
    made = {id(v.output) for v in trace.visits if first is not None and first.entered <= v.entered < visit.entered}
    beside = _made_beside(trace, mux)
    return [
        argument
        for argument, seen in visit.given.items()
        if (seen is not visit.input or seen.constant)
        and all(seen is not other for other in mixed)
        and _has_rows(seen.shape, rows)
        and (id(seen) not in made or seen.memory in beside)
    ]


def _grows(of_a_row: float, value: Tensor) -> bool:
    """Whether a tensor of other rows has as much of each: a bias of every head is as long for any batch."""
    return value.shape[0] == of_a_row * ROWS


def _rows(trace: Trace) -> int:
    return trace.visits[0].input.shape[0] if trace.visits[0].input is not None else 0


def _has_rows(shape: tuple[int, ...], rows: int) -> bool:
    """Whether a tensor has the rows first, or is ``[rows * heads, queries, keys]``."""
    return shape[:1] == (rows,) or (len(shape) == 3 and rows > 0 and shape[0] % rows == 0 and shape[0] > 0)


def _made_beside(trace: Trace, mux: tuple[Site, ...]) -> set[object]:
    """Return where what modules make of the backbone's other inputs lies in memory: an embedded time step, for one."""
    mixed = {site.path for site in mux if site.path}
    parts = [mixed_at(trace, site) for site in mux]
    known = {
        seen.memory
        for seen in trace.visits[0].given.values()
        if len(mux) == 1 or all(seen is not part for part in parts)
    }
    for visit in trace.visits[1:]:
        if visit.output is None or visit.path in mixed or not visit.given:
            continue
        if all(seen.memory in known for seen in visit.given.values()):
            known.add(visit.output.memory)
    return known


def _side(
    trace: Trace, visit: Visit, argument: str, kind: SideKind, sequence: Seen | None, mux: tuple[Site, ...]
) -> SideInput:
    if sequence is None:
        return SideInput(visit.path, argument, kind)
    side = visit.given[argument]
    first, name = next((each.path, name) for each in trace.visits for name, seen in each.given.items() if seen is side)
    mixed = [None if v is None else v.input if site.side == "input" else v.output for site, v in _visits(trace, mux)]
    site = next((k for k, seen in enumerate(mixed) if seen is sequence), 0 if len(mux) == 1 else None)
    return SideInput(visit.path, argument, kind, site, (first, name))


def _visits(trace: Trace, sites: tuple[Site, ...]) -> list[tuple[Site, Visit | None]]:
    return [(site, trace.at(site.path)) for site in sites]


def _call_of(backbone: nn.Module, visit: Visit, example: Any) -> tuple[Any, Any] | None:
    """Return what a module is called with in a run of the backbone, which ends there."""
    kept: list[tuple[Any, Any]] = []

    def keep(_module: nn.Module, args: Any, kwargs: Any) -> None:
        kept.append((args, kwargs))
        raise _ReachedError

    handle = visit.module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with quiet(backbone):
            run(backbone, example)
    except Exception:
        return kept[0] if kept else None
    finally:
        handle.remove()
    return None


class _ReachedError(Exception):
    """Ends a run where all that was asked for is known."""
