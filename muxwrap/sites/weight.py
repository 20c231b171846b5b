"""What a pair of sites is worth: the part of a call's operations that run between them, once per mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from muxwrap.site import Site, Sites, percent
from muxwrap.sites.trace import Trace, Visit

LEAST = 0.05
"""A pair with less between its sites is worth nothing: what mixing and separating cost is more."""

HALF = 0.5
"""Where less is between sites that were found, the user is told."""


def share_between(trace: Trace, mux: Sequence[Site], demux: Sequence[Site]) -> float | None:
    """Return which part of a run's operations lies between sites, or None where that is not known.

    Of several sites, what runs before the first mux site and after the last demux site is outside, and so are embeddings
    and heads that run for rows in between.
    """
    starts = [(site, trace.at(site.path)) for site in mux]
    ends = [(site, visit) for site in demux if (visit := trace.at(site.path)) is not None]  # others run in training
    if not trace.operations or not ends or any(visit is None for _, visit in starts):
        return None
    begin = min(_operations(site, visit) for site, visit in starts if visit is not None)
    end = max(_operations(site, visit) for site, visit in ends)
    of_rows = sum(
        visit.after - visit.before
        for site, side, visit in (*((s, "output", v) for s, v in starts), *((s, "input", v) for s, v in ends))
        if visit is not None and site.side == side and begin <= visit.before and visit.after <= end
    )
    return max(0, end - begin - of_rows) / trace.operations


def _operations(site: Site, visit: Visit) -> float:
    return visit.before if site.side == "input" else visit.after


@dataclass
class Cost:
    """What a module costs in a call, without the modules that it calls.

    Args:
        name: how a message names it.
        calls: of the module, in one call of the backbone.
        share: of all operations.
    """

    name: str
    calls: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        return f"{self.name} {percent(self.share)}" + (f" in {self.calls} calls" if self.calls > 1 else "")


def costliest(trace: Trace, most: int = 3) -> list[Cost]:
    """Return the modules that cost most, the costliest first."""
    costs: dict[str, Cost] = {}
    for visit in trace.visits:
        kind = type(visit.module).__name__
        cost = costs.setdefault(visit.path, Cost(f"{visit.path!r} ({kind})" if visit.path else f"{kind} itself"))
        cost.calls += 1
        cost.share += visit.own / (trace.operations or 1)
    dear = sorted(costs.values(), key=lambda cost: -cost.share)
    return [cost for cost in dear[:most] if cost.share >= 0.01]


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
        by_weight: whether pairs with less than half of the operations between them come later, too, and after them those
            that mix where a row has next to no features.
    """
    first: list[Pair] = []
    light: list[Pair] = []
    narrow: list[Pair] = []
    last: list[Pair] = []
    for one in mux:
        shares = {other: share_between(trace, one, other) for other in demux}
        behind = [share for other, share in shares.items() if not _answers(other)] or list(shares.values())
        most = max((1.0 if share is None else share for share in behind), default=1.0)
        skipped = False
        for other, share in shares.items():
            weight = most if _answers(other) or share is None else share
            if share is not None and share < LEAST:
                skipped = True
            elif not _answers(other) or not skipped:
                group = narrow if by_weight and _is_narrow(one) else light if by_weight and weight < HALF else first
                group.append((one, other))
            elif share is None or share >= HALF:
                last.append((one, other))
    return first + light + narrow + last


NARROW = 4
"""A row of fewer features has hardly any to share with others: raw signals of one channel, coordinates."""


def _is_narrow(mux: tuple[Site, ...]) -> bool:
    return any(site.axis is not None and site.dim < NARROW for site in mux)


def _answers(demux: tuple[Site, ...]) -> bool:
    """Whether what the backbone returns would be separated."""
    return not demux[0].path and demux[0].part is None


# -- what is said -----------------------------------------------------------------------------------------------------


def nothing_between(trace: Trace) -> str:
    """Return why no pair of sites is worth anything, and which modules would have to be inside."""
    return (
        f"less than {percent(LEAST)} of the operations run between any two places where rows could be mixed and separated. "
        f"The modules that cost most would have to be between them: {'; '.join(map(str, costliest(trace)))}. Name a module "
        f"before them with mux_at= ('path@input' or 'path@output') and one after them with demux_at={runs_often(trace)}"
    )


def runs_often(trace: Trace) -> str:
    """Return what to do with costly modules that run several times per call, or nothing."""
    often = [str(cost) for cost in costliest(trace) if cost.calls > 1]
    if not often:
        return _embedded_often(trace)
    return f". A site has to run once per call, and these do not: {'; '.join(often)}; {_ALONE}"


def _embedded_often(trace: Trace) -> str:
    """Return what to do with an embedding that reads several inputs, or nothing."""
    read = Counter(visit.path for visit in trace.visits if isinstance(visit.module, nn.Embedding))
    often = [f"{path!r} (Embedding) in {calls} calls" for path, calls in read.items() if calls > 1]
    if not often:
        return ""
    return (
        f". A site has to run once per call, and these do not: {'; '.join(often)}; give every input an embedding of its own, "
        "which may have the same weight: self.other.weight = self.one.weight"
    )


_ALONE = "wrap the part that runs several times alone, and put the wrapped part in its place"


def crowded(site: Site, n: int) -> str:
    """Return what a user is told where more rows are mixed than a row has features."""
    return (
        f"{n} rows share {site.dim} {'number' if site.dim == 1 else 'numbers'} per position at the {site}, so that most of "
        "each row is lost where they are mixed. Put a layer that makes more features of a row before (nn.Linear"
        f"({site.dim}, 32)), name mux_at= where there are more, or take a smaller n"
    )


def light_split(trace: Trace, sites: Sites, better: str | None) -> str:
    """Return what a user is told where less than half of the operations run once per mixture."""
    dear = "; ".join(map(str, costliest(trace)))
    name = "name mux_at= before the modules that cost most and demux_at= after them"
    way = better or (_ALONE if any(cost.calls > 1 for cost in costliest(trace)) else name)
    return (
        f"only {percent(sites.share or 0)} of the operations run once per mixture, between the {sites.mux[0]} and the "
        f"{sites.demux[0]}; the others run for every row. The modules that cost most: {dear}. To raise the share, {way}"
    )
