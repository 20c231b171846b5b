"""Where a backbone begins: its first layer, the blocks around it and what follows soon after."""

from __future__ import annotations

from collections.abc import Iterator

from muxwrap.sites.tracing.trace import Trace, Visit, has_matrix

_STEM_SHARE = 0.25  # of the layers; a block that holds more of them is more trunk than stem


def first_layer(trace: Trace) -> Visit | None:
    """Return the first layer with a weight matrix: raw pixels may pass a norm before it."""
    leaves = trace.leaves()
    return next((visit for visit in leaves if has_matrix(visit.module)), next(iter(leaves), None))


def blocks_around(trace: Trace, first: Visit) -> Iterator[Visit]:
    """Yield the blocks that the first layer is part of, from the smallest on, as long as they are a stem."""
    leaves = trace.leaves()
    for path in parents(first.path):
        visit = trace.at(path)
        inside = [leaf for leaf in leaves if leaf.path.startswith(path + ".")]
        if visit is not None and len(inside) <= _STEM_SHARE * len(leaves):
            yield visit


def parents(path: str) -> Iterator[str]:
    """Yield the paths of the modules around one, from the innermost on, without the backbone itself."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def soon_after(trace: Trace, first: Visit) -> list[Visit]:
    """Return the modules entered soon after the first layer was left, one per tensor that they read, without the head.

    What reads the call's own numbers begins another branch.
    """
    leaves, given = trace.leaves(), {seen.memory for seen in trace.given}
    soon = max(1, int(_STEM_SHARE * len(leaves)))
    found: list[Visit] = []
    for visit in trace.once:
        new = visit.input is not None and visit.input.memory not in given
        new = new and all(visit.input is not other.input for other in found)
        late = visit is leaves[-1] or sum(leaf.left < visit.entered for leaf in leaves) > soon
        if visit.entered > first.left and new and not late:
            found.append(visit)
    return found
