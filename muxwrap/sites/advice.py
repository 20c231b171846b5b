"""What a user should know of the sites that were found: that too little runs between them, and what would raise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from muxwrap.site import Site, Sites, percent
from muxwrap.sites.trial import Trial
from muxwrap.sites.weight import HALF, light_split, share_between


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
            return light_split(trial.trace, sites, f"name mux_at={_written(named)}: {percent(share)}")
    return light_split(trial.trace, sites, None)


def _written(names: list[str]) -> str:
    return repr(names[0] if len(names) == 1 else names)
