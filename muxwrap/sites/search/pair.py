"""Trying one pair of candidates: in every way in which masks and other side inputs may be taken between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from muxwrap.site import MaskMode, SideInput, Sites
from muxwrap.sites.examples import family_of
from muxwrap.sites.families import generic
from muxwrap.sites.families.returned import returned
from muxwrap.sites.search.masks import mask_modes
from muxwrap.sites.search.ordering import Pair
from muxwrap.sites.search.unread import attending_all, reads_masked, reads_no_padding
from muxwrap.sites.trials.trial import Trial


@dataclass
class Tried:
    """What the pairs that were tried have shown.

    Args:
        light: exact sites, but much of what lies between them runs for every row.
        second_best: sites at which copies of one row get the right answers, but are not proven exact.
        failures: why there is nothing at a pair, a line for each.
    """

    light: list[Sites] = field(default_factory=list)
    second_best: list[Sites] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def exact(trial: Trial, pair: Pair, tried: Tried) -> Sites | None:
    """Return sites of a pair of candidates that match the bare model; note what is second best, or why there is nothing."""
    if {(site.path, site.side) for site in pair[0]} & {(site.path, site.side) for site in pair[1]}:
        return None  # nothing runs between
    problems = []
    for mask, mask_at, sides in _ways(trial, pair):
        sites = Sites(*pair, mask, mask_at, attending_all(sides))
        verdict = trial.check(sites)
        if verdict.match == "exact" and any(side.kind == "same" for side in sides):
            told = tuple(side for side in sides if side.kind != "same")
            fewer = replace(sites, sides=attending_all(told))
            if not told or trial.check(fewer).match != "exact":
                tried.second_best.append(sites)  # only where rows of a mixture agree
                return None
            sites, sides = fewer, told  # the others are made of what is mixed
        if verdict.match == "exact":
            return _leaving_out(trial, sites, sides)
        unproven = verdict.problem is None and not trial.reproducible and mask is not MaskMode.SIZE
        if verdict.match == "sound" or unproven:
            tried.second_best.append(sites)
        problems.append(verdict.problem or "copies of one input do not get the bare model's answer to it")
    mux, demux = (" and ".join(map(str, sites)) for sites in pair)
    tried.failures.append(f"mix {mux}, separate {demux}: {'; '.join(dict.fromkeys(problems))}")
    return None


def completed(trial: Trial, pair: Pair) -> Sites | None:
    """Return the sites of a pair with those of the answers that it leaves to mixtures, separated as they are returned.

    Only of pairs that were run, and at which some answers were right.
    """
    sites = Sites(*pair)
    parts = returned(trial.trace, trial.astray(sites))
    if not parts:
        return None
    whole = replace(sites, demux=(*sites.demux, *parts))
    if trial.check(whole, known=False).match != "exact":
        return None
    return replace(whole, share=trial.share(whole))


def _leaving_out(trial: Trial, sites: Sites, sides: tuple[SideInput, ...]) -> Sites:
    """Return exact sites at which mixing leaves padding out, where the backbone does not read it.

    Models of a known family do not read what their ``attention_mask`` calls padding.
    """
    if sites.masked and family_of(trial.backbone) is generic:
        sites = replace(sites, padding_read=reads_masked(trial.backbone, trial.runs.example, sites))
    unread = reads_no_padding(trial.backbone, trial.runs.example, sites, sides)
    return replace(sites, sides=sides) if unread else sites


_Way = tuple[MaskMode, str, tuple[SideInput, ...]]


def _ways(trial: Trial, pair: Pair) -> Iterator[_Way]:
    """Yield how what the modules between are given besides may be taken: by the name of the mask, or as it is found there."""
    yield from ((mask, mask_at, ()) for mask, mask_at in mask_modes(trial, pair[0]))
    of_backbone = pair[0][0].path == "" and pair[1][0].path != ""
    for whole in (False, True) if of_backbone else (False,):
        sides = trial.sides_between(*pair, whole)
        # Copies of one row agree in everything; rows do not agree in what a model is given of them besides what is mixed.
        if sides and not any(side.kind == "same" and side.path == "" for side in sides):
            yield MaskMode.NONE, "", sides
