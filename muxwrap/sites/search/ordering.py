"""Which pairs of candidates are worth trying, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from muxwrap.site import Site
from muxwrap.sites.families.branches import heavy_branches
from muxwrap.sites.tracing.resolve import is_answer, mixed_at
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.tracing.weight import HALF, LEAST, is_narrow, share_between

Pair = tuple[tuple[Site, ...], tuple[Site, ...]]


def ordered(
    trace: Trace, mux: Sequence[tuple[Site, ...]], demux: Sequence[tuple[Site, ...]], by_weight: bool
) -> list[Pair]:
    """Return the pairs of candidates that are worth trying, in the order of trying.

    It is their own order, but what the backbone returns comes last where the layer that makes it is the first that would be
    inside: answers are separated only where nothing else is worth it, and much runs then. Several maps are features, not
    answers.

    Args:
        trace: of the backbone.
        mux: candidates for mixing.
        demux: candidates for separating.
        by_weight: whether pairs with nothing between them but heads are left out, pairs with less than half of the operations
            come later, too, and after them those that mix or separate where a row has next to no features; among pairs that
            are alike in that, answers are separated last. What is pooled from a map at the end is features then.
    """
    first: list[Pair] = []
    light: list[Pair] = []
    narrow: list[Pair] = []
    last: list[Pair] = []
    answers = (
        [] if by_weight and _pools_at_the_end(trace) else [other for other in demux if separates_answers(trace, other)]
    )
    for one in mux:
        shares = {other: share_between(trace, one, other) for other in demux}
        behind = [share for other, share in shares.items() if other not in answers] or list(shares.values())
        most = max((1.0 if share is None else share for share in behind), default=1.0)
        skipped = False
        for other, share in shares.items():
            if by_weight and _only_heads(trace, one, other):
                continue
            weight = most if other in answers or share is None else share
            if share is not None and share < LEAST:
                skipped = True
            elif other not in answers or not skipped:
                few = any(map(is_narrow, (*one, *other)))
                group = narrow if by_weight and few else light if by_weight and weight < HALF else first
                group.append((one, other))
            elif share is None or share >= HALF:
                last.append((one, other))
    groups: list[list[Pair]] = [first, light, narrow, last]
    if by_weight:
        groups = [sorted(group, key=lambda pair: pair[1] in answers) for group in groups]
    return [pair for group in groups for pair in group]


def heavy(trace: Trace, mux: Sequence[tuple[Site, ...]], demux: Sequence[tuple[Site, ...]]) -> list[Pair]:
    """Return the pairs of candidates with half of the operations or more between them, in the order of trying.

    One product with a matrix is no trunk, as heavy as it may be: what the rows have to be told apart in is all after it.
    """
    pairs = ordered(trace, mux, demux, by_weight=True)
    return [pair for pair in pairs if (share_between(trace, *pair) or 0) >= HALF and not _is_a_product(trace, pair)]


def leaves_branch(trace: Trace, pair: Pair) -> bool:
    """Whether one of the backbone's own modules with much of the work reads what is given before or after all that is mixed.

    Such as one of two towers: places that mix both are worth looking for.
    """
    begin = min((passed(trace, site) for site in pair[0]), default=0)
    end = max((passed(trace, site) for site in pair[1]), default=0)
    given = {seen.memory for seen in trace.given}
    outside = (visit for visit in next(heavy_branches(trace), ()) if visit.left <= begin or 0 <= end <= visit.entered)
    reading = (visit for visit in outside if any(seen.memory in given for seen in visit.given.values()))
    return any(visit.after - visit.before > _MUCH * trace.operations for visit in reading)


_MUCH = 0.25  # of the operations, in a branch that is left to rows


def _is_a_product(trace: Trace, pair: Pair) -> bool:
    begin, end = trace.at(pair[0][0].path), trace.at(pair[1][0].path)
    return (
        begin is end
        and begin is not None
        and begin.leaf
        and isinstance(begin.module, (nn.Linear, nn.modules.conv._ConvNd))
    )


def _only_heads(trace: Trace, mux: Sequence[Site], demux: Sequence[Site]) -> bool:
    """Whether the layers that make answers do nearly all that lies between: answers would be what is mixed."""
    begin = min((passed(trace, site) for site in mux), default=0)
    end = max((passed(trace, site) for site in demux), default=0)
    made = {answer.memory for answer in trace.answers}
    heads = [
        leaf
        for leaf in trace.leaves()
        if begin <= leaf.entered and leaf.left <= end and isinstance(leaf.module, nn.Linear)
        if leaf.output is not None and leaf.output.memory in made
    ]
    between = (share_between(trace, mux, demux) or 0) * trace.operations
    return bool(heads) and sum(head.own for head in heads) > (1 - LEAST) * between


def passed(trace: Trace, site: Site) -> int:
    """Return when a site was passed in a trace, or -1."""
    visit = trace.at(site.path)
    return -1 if visit is None else visit.entered if site.side == "input" else visit.left


def _pools_at_the_end(trace: Trace) -> bool:
    """Whether the answer is what the last layer made of many places, pooled: features rather than what a head makes of them."""
    leaves, answers = trace.leaves(), [answer for answer in trace.answers if answer.floating]
    made = leaves[-1].output if leaves else None
    return made is not None and len(answers) == 1 and answers[0].ndim == 2 < made.ndim and made.floating


def separates_answers(trace: Trace, demux: tuple[Site, ...]) -> bool:
    """Whether what the backbone returns would be separated, there or where the last of its modules gives it."""
    if not demux[0].path:
        return demux[0].part is None
    return all(site.side == "output" and is_answer(trace, site) for site in demux)


def heads_alone(trace: Trace, pair: Pair) -> bool:
    """Whether answers would be separated that linear layers make of what is mixed, and nothing else runs between."""
    mux, demux = pair
    mixed = {seen.memory for site in mux if (seen := mixed_at(trace, site)) is not None}
    behind = [leaf for leaf in trace.leaves() if leaf.entered >= min(passed(trace, site) for site in mux)]
    makers = [leaf for leaf in behind if leaf.input is not None and leaf.input.memory in mixed]
    return (
        separates_answers(trace, demux)
        and len(makers) == len(behind) > 0
        and all(isinstance(leaf.module, nn.Linear) for leaf in makers)
    )
