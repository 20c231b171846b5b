"""Heads that run in training only: which of them read mixtures."""

from __future__ import annotations

from dataclasses import replace

from muxwrap.site import Sites
from muxwrap.sites.runs.dry_run import answers_in_training, watched
from muxwrap.sites.runs.runs import BARE_ROWS, Runs


def without_early_heads(runs: Runs, sites: Sites) -> Sites:
    """Return sites without those before heads that read rows before anything is mixed, which a bare run in training shows.

    Nothing is to be separated there, and a demuxer that no call reaches would never be trained.
    """
    reached = {visit.path for visit in runs.trace.visits}
    unseen = [site for site in sites.demux[1:] if site.path not in reached]
    if not unseen:
        return sites
    with watched(runs.backbone, (*sites.mux, *unseen)) as passed:
        answers_in_training(runs.backbone, runs.call(False, BARE_ROWS), BARE_ROWS)
    before = list(passed)[: min((list(passed).index(site) for site in sites.mux if site in passed), default=0)]
    return replace(sites, demux=tuple(site for site in sites.demux if site not in before))
