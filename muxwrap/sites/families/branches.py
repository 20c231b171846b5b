"""A backbone with several inputs: where its branches begin, do their work and join, and who is told of padding."""

from __future__ import annotations

import math
from collections.abc import Iterator

from muxwrap.sites.resolve import width
from muxwrap.sites.trace import Trace, Visit


def first_layers(trace: Trace, first: Visit | None) -> list[Visit]:
    """Return the first layer; of a backbone with several inputs the first of each branch, that of the largest input first."""
    given = list(
        {id(seen): seen for seen in trace.visits[0].given.values() if seen.floating and seen.ndim > 1}.values()
    )
    given.sort(key=lambda seen: math.prod(seen.shape), reverse=True)
    readers = [next((leaf for leaf in trace.leaves() if leaf.input is seen), None) for seen in given]
    branches = [reader for reader in readers if reader is not None]
    if len(branches) > 1:
        return branches
    return [] if first is None else [first]


def heavy_branch(trace: Trace) -> Iterator[Visit]:
    """Yield the one of the backbone's own modules that does most of the work, if one does: what joins its output takes rows."""
    work = {leaf.path: _work(leaf) for leaf in trace.leaves()}
    for visit in trace.once:
        inside = [done for path, done in work.items() if path.startswith(visit.path + ".")]
        if visit.path and "." not in visit.path and len(inside) > 1 and 2 * sum(inside) > sum(work.values()):
            yield visit


def _work(leaf: Visit) -> int:
    """Return about how many products a layer makes: its weights, at every position of what it returns."""
    shape, features = (1,) if leaf.output is None else leaf.output.shape, width(leaf.module, "output") or 1
    return sum(p.numel() for p in leaf.module.parameters(recurse=False)) * max(1, math.prod(shape[1:]) // features)


def after_joins(trace: Trace) -> list[Visit]:
    """Return the modules that read features which no module made and the backbone was not given: branches are joined there."""
    known = {id(seen) for seen in trace.visits[0].given.values()}
    found: list[Visit] = []
    for visit in trace.once:
        seen = visit.input
        if seen is not None and seen.floating and id(seen) not in known:
            found.append(visit)
        known |= {id(each) for each in (seen, visit.output) if each is not None}
    return found


def told_padding(visit: Visit) -> bool:
    """Whether a module is given tokens and one number for each of them, such as a mask."""
    tokens = visit.input
    if tokens is None or tokens.ndim != 3:
        return False
    return any(seen.shape == tokens.shape[:2] for seen in visit.given.values())
