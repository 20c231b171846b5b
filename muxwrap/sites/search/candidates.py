"""Candidates for the two sites: what the user names, or what the model's family offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn

from muxwrap.site import Site
from muxwrap.sites.examples import family_of
from muxwrap.sites.families import generic
from muxwrap.sites.tracing.resolve import is_answer, site_from
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.trials.trial import Trial

Choice = str | nn.Module | Site | Iterable[str | nn.Module | Site] | None
Candidates = list[tuple[Site, ...]]


def demux_candidates(trial: Trial, choice: Choice) -> Candidates:
    """Return where mixtures may be separated."""
    chosen = _chosen(trial, choice, "input", "demux_at")
    return chosen or list(dict.fromkeys(family_of(trial.backbone).demux_candidates(trial.backbone, trial.trace)))


def late_demux_candidates(trial: Trial) -> Candidates:
    """Return where else mixtures may be separated in a backbone of no known family, if nothing works at the others."""
    return list(generic.late_demux_candidates(trial.trace)) if family_of(trial.backbone) is generic else []


def mux_candidates(trial: Trial, choice: Choice, pixels: int) -> Candidates:
    """Return where rows may be mixed, raw images of so many pixels first if they are not 0; never what is an answer."""
    chosen = _chosen(trial, choice, "output", "mux_at")
    if chosen:
        return chosen
    raw = generic.raw_images(trial.trace, pixels) if pixels else ()
    found = dict.fromkeys((*raw, *family_of(trial.backbone).mux_candidates(trial.backbone, trial.trace)))
    return [
        sites
        for sites in found
        if not any(is_answer(trial.trace, site) or _knows_no_row(trial.trace, site) for site in sites)
    ]


def _knows_no_row(trace: Trace, site: Site) -> bool:
    """Whether a site is the output of a module that is given no tensor: latents, queries, prompts, the same for all rows."""
    visit = trace.at(site.path)
    return site.side == "output" and visit is not None and visit.path != "" and not visit.given


def _chosen(trial: Trial, choice: Choice, side: Literal["input", "output"], argument: str) -> Candidates:
    if choice is None:
        return []
    several = choice if isinstance(choice, (list, tuple)) else [choice]
    return [tuple(site_from(trial.trace, trial.backbone, one, side, argument) for one in several)]
