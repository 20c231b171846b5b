"""What a user should know of the sites that were found: that too little runs between them, and what would raise it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from muxwrap.site import Site, Sites, percent
from muxwrap.sites.search.in_parts import in_parts
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.tracing.weight import ALONE, HALF, costliest, share_between
from muxwrap.sites.trials.trial import Trial


def advice(trial: Trial, sites: Sites, mux: Sequence[tuple[Site, ...]]) -> str | None:
    """Return what a user is told of sites with less than half of the operations between them, or None.

    Args:
        trial: of the backbone.
        sites: that were found, with their share.
        mux: every candidate for mixing; those with a larger share are tried, and the best that works is named.
    """
    if sites.share is None or sites.share >= HALF:
        return None
    larger = []
    for candidate in mux:
        share = share_between(trial.trace, candidate, sites.demux)
        if share is not None and share > sites.share + 0.01:
            larger.append((share, candidate))
    for _, candidate in sorted(larger, key=lambda each: -each[0]):
        other = replace(sites, mux=candidate)
        exact = trial.check(other).match == "exact"
        share = (trial.share(other) or 0) if exact else 0
        if share > sites.share + 0.01:
            named = [f"{site.path}@{site.side}" for site in candidate]
            return _light_split(trial.trace, sites, f"name mux_at={_written(named)}: {percent(share)}")
    return _light_split(trial.trace, sites, None)


def _written(names: list[str]) -> str:
    return repr(names[0] if len(names) == 1 else names)


def _light_split(trace: Trace, sites: Sites, better: str | None) -> str:
    """Return what a user is told where less than half of the operations run once per mixture."""
    dear = "; ".join(map(str, costliest(trace)))
    name = "name mux_at= before the modules that cost most and demux_at= after them"
    way = better or in_parts(trace) or (ALONE if any(cost.calls > 1 for cost in costliest(trace)) else name)
    return (
        f"only {percent(sites.share or 0)} of the operations run once per mixture, between the {sites.mux[0]} and the "
        f"{sites.demux[0]}; the others run for every row. The modules that cost most: {dear}. To raise the share, {way}"
    )


def crowded(sites: Sites, n: int) -> Iterator[str]:
    """Yield what a user is told where more rows are mixed or separated than a row has features."""
    full = (site for site in (*sites.mux, *sites.demux) if site.axis is not None and site.dim < n)
    for site in islice(full, 1):
        numbers = f"{site.dim} {'number' if site.dim == 1 else 'numbers'}"
        share = f"{n} rows share {numbers} per position at the {site}, so that most of each row"
        if site in sites.mux:
            yield (
                f"{share} is lost where they are mixed. Put a layer that makes more features of a row before (nn.Linear"
                f"({site.dim}, 32)), name mux_at= where there are more, or take a smaller n"
            )
        else:
            yield (
                f"{share} cannot be told apart there. Let a layer of its own make these numbers of more features "
                f"(nn.Linear(32, {site.dim}) as a module that is called), name demux_at= where there are more, or take a "
                "smaller n"
            )


def kept_rows(paths: Sequence[str]) -> Iterator[str]:
    """Yield what a user is told of tensors that the model keeps on itself between the sites."""
    if paths:
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        yield (
            f"the model keeps tensors on itself that are made between the sites ({', '.join(paths[:3])}{more}): after a call "
            "they hold a row per mixture, where the bare model's hold one per row. Take from them what belongs to mixtures "
            "alone, and return what you need of every row among the answers"
        )
