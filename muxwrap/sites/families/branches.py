"""A backbone with several inputs: where its branches begin, do their work and join, and who is told of padding."""

from __future__ import annotations

import math
from collections.abc import Iterator

from muxwrap.site import Site
from muxwrap.sites.tracing.resolve import site_at
from muxwrap.sites.tracing.trace import Trace, Visit


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


def heavy_branches(trace: Trace) -> Iterator[tuple[Visit, ...]]:
    """Yield those of the backbone's own modules that do most of the work, together and alone: what joins them takes rows."""
    leaves, most = trace.leaves(), trace.operations / 2
    work = {
        visit.path: visit.after - visit.before
        for visit in trace.once
        if visit.path and "." not in visit.path and sum(leaf.path.startswith(visit.path + ".") for leaf in leaves) > 1
    }
    heavy = [path for path, done in work.items() if done > 0.2 * most]
    for found in (heavy, [path for path in heavy if work[path] > most]):
        if found and sum(work[path] for path in found) > most:
            yield tuple(visit for visit in trace.once if visit.path in found)


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


def readers_of_given(trace: Trace) -> list[Visit]:
    """Return the layers that read what the backbone is given: of a condition each block may have one of its own."""
    given = {seen.memory for seen in trace.given}
    return [leaf for leaf in trace.leaves() if leaf.input is not None and leaf.input.memory in given]


def beside_packed(trace: Trace, branches: list[Visit]) -> Iterator[tuple[Site, ...]]:
    """Yield what a module is given as a packed sequence together with what all branches make but one: that which is packed.

    What is packed is no view of what was made before, which cannot be mixed itself: its lengths are those of the rows.
    """
    for visit in trace.once:
        if not any(argument.endswith(".batch_sizes") for argument in visit.given):
            continue
        for packed in branches:
            others = [site_at(trace, other.path, "output") for other in branches if other is not packed]
            sites = [site for site in (site_at(trace, visit.path, "input"), *others) if site is not None]
            if len(sites) == len(branches) and len({site.dim for site in sites}) == 1:
                yield tuple(sites)
