"""What a pair of sites is worth: the part of a call's operations that run between them, once per mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from muxwrap.site import Site, percent
from muxwrap.sites.tracing.trace import Trace, Visit

LEAST = 0.05
"""A pair with less between its sites is worth nothing: what mixing and separating cost is more."""

HALF = 0.5
"""Where less is between sites that were found, the user is told."""

NARROW = 4
"""A row of fewer features has hardly any to share with others: raw signals of one channel, coordinates."""


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
    calls = min(trace.calls.get(visit.path, 1) for _, visit in (*starts, *ends) if visit is not None)
    return max(0, end - begin - of_rows) * calls / trace.operations


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


def runs_often(trace: Trace) -> str:
    """Return what to do with costly modules that run several times per call, or nothing."""
    often = [str(cost) for cost in costliest(trace) if cost.calls > 1]
    if not often:
        return _embedded_often(trace)
    return f". A site has to run once per call, and these do not: {'; '.join(often)}; {ALONE}"


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


ALONE = "wrap the part that runs several times alone, and put the wrapped part in its place"


def is_narrow(site: Site) -> bool:
    """Whether a row has so few features at a site."""
    return site.axis is not None and site.dim < NARROW
