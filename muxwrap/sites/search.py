"""Find where to mix and where to separate: candidates in the order of preference, each tried on the backbone itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from typing import Any, NamedTuple

from torch import nn

from muxwrap._hooks.adapters import inside, prefix_of
from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._util.examples import ROWS, quiet
from muxwrap._util.progress import progress_line
from muxwrap._util.untouched import untouched
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, SideInput, Site, Sites
from muxwrap.sites.advice import advice
from muxwrap.sites.candidates import Choice, demux_candidates, mux_candidates
from muxwrap.sites.dry_run import answers, mixing_fails, padded
from muxwrap.sites.examples import check_example, example_of, family_of
from muxwrap.sites.families import generic, timm
from muxwrap.sites.families.returned import returned
from muxwrap.sites.masks import mask_modes
from muxwrap.sites.resolve import without_prefix
from muxwrap.sites.runs import BARE_ROWS, PADDED_ROWS
from muxwrap.sites.trial import Trial
from muxwrap.sites.unread import attending_all, reads_no_padding
from muxwrap.sites.weight import HALF, LEAST, Pair, nothing_between, ordered, runs_often, share_between


def find_sites(
    backbone: nn.Module, example_input: Any = None, *, mux_at: Choice = None, demux_at: Choice = None
) -> Sites:
    """Find the sites of a backbone.

    Candidates come from the model's family (timm's metadata, the structure of Transformers models, or just the order in
    which the modules run) and each is tried in a dry run of three rows on the backbone itself. The first at which copies of
    one row get the bare model's answers is taken, if 5 % of the operations or more run between its sites. The backbone is
    left as it was. These are sites for strategies that mix features; one that gives every image a place of its own, or none,
    lets :func:`muxwrap.wrap` mix the raw images of a CNN.

    Args:
        backbone: any module.
        example_input: what the backbone is called with: a tensor, a tuple of arguments or a dict of keyword arguments.
            Needed where it cannot be made from the model's own metadata (user-written models).
        mux_at: instead of the candidates: a module path (its output is mixed, or its input with ``"path@input"``;
            ``"@input"`` is the backbone's own input), a module, a :class:`Site`, or several.
        demux_at: likewise; a module's input is separated unless ``"path@output"`` says otherwise.

    Returns:
        The sites, which wrap and load take as they are.

    Raises:
        MuxwrapError: no example, a named site that does not exist or does not run exactly once, rows that depend on each
            other, nothing of weight between any two sites, or no candidate works; the message lists what was tried.
    """
    return locate(backbone, example_input, mux_at=mux_at, demux_at=demux_at).sites


class Located(NamedTuple):
    """What a search found.

    Args:
        sites: where to mix and to separate.
        example: a call of three rows.
        advice: what the user should know of the sites, or None.
    """

    sites: Sites
    example: Any
    advice: str | None


def locate(
    backbone: nn.Module,
    example_input: Any,
    *,
    mux_at: Choice,
    demux_at: Choice,
    prefix: int = 0,
    pixels: int = 0,
) -> Located:
    """Do what :func:`find_sites` says, and return also an example of three rows.

    Where the demuxer puts a prefix before every mixture, only sites that stand it are taken. With ``pixels``, raw images
    of so many or more are preferred, unless what is separated is a map of the image again, where every place counts.
    """
    with progress_line(f"muxwrap: finding sites in {type(backbone).__name__}"), untouched(backbone):
        outer = prefix_of(backbone)
        backbone = inside(backbone)
        example = example_of(backbone, example_input)
        problem = timm.refused_call(backbone, example) if timm.matches(backbone) else None
        if problem is not None:
            raise MuxwrapError(problem)
        trial = Trial(backbone, example, prefix)
        check_example(trial, example_input)
        demux = demux_candidates(trial, without_prefix(demux_at, outer))
        least = pixels if all(site.pixels <= 1 for sites in demux[:1] for site in sites) else 0
        mux = mux_candidates(trial, without_prefix(mux_at, outer), least)
        if mux_at is None or demux_at is None:  # what the user names is taken as it is; a family knows its models
            pairs = ordered(trial.trace, mux, demux, by_weight=family_of(backbone) is generic)
        else:
            pairs = list(product(mux, demux))
        trial.runs.candidates = tuple(dict.fromkeys(one[0] for one in demux))
        sites = _search(trial, pairs, named=mux_at is not None and demux_at is not None)
        told = advice(trial, sites, mux) if mux_at is None else None
        return Located(sites.renamed(lambda path: outer + path if path else path), example, told)


def _search(trial: Trial, pairs: list[Pair], named: bool) -> Sites:
    """Return the first exact pair of candidates that is worth it, the best of the others, or the first of the second best.

    Raises:
        MuxwrapError: there is none; the message lists what was tried.
    """
    second_best: list[Sites] = []
    failures: list[str] = []
    light: list[Sites] = []
    for pair in pairs:
        sites = _exact(trial, pair, second_best, failures)
        if sites is not None:
            sites = replace(sites, share=trial.share(sites))
            if named or not _runs_besides(trial, sites):
                whole = [] if named or _worth(sites) >= HALF else _all_completed(trial, pairs)
                return trial.narrowed(max((sites, *light, *whole), key=_worth))
            light.append(sites)
        if len(second_best) > _ENOUGH_SECOND_BEST:
            break
    if not second_best:
        light += _all_completed(trial, pairs)
    if light and _worth(max(light, key=_worth)) >= LEAST:
        return trial.narrowed(max(light, key=_worth))
    if second_best:
        return trial.narrowed(replace(second_best[0], share=trial.share(second_best[0])))
    trial.check_rows()
    if not pairs or light:
        raise MuxwrapError(f"{type(trial.backbone).__name__}: {nothing_between(trial.trace)}")
    tried = "\n".join(f"  {line}" for line in failures)
    hints = runs_often(trial.trace) or _read_between(trial, failures)
    raise MuxwrapError(f"no way found to multiplex {_what(trial)} yourself{hints}. Tried:\n{tried}")


def _read_between(trial: Trial, failures: list[str]) -> str:
    """Return what to do where the backbone itself reads what comes with the rows, and no module is given it; or nothing."""
    given = [path for path, seen in trial.trace.visits[0].given.items() if seen.shape[:1] == (BARE_ROWS,)]
    if len(given) < 2 or not any("must match" in line for line in failures):
        return ""
    return (
        f". The backbone is given {' and '.join(given)} of the rows; what it reads of them between its modules is not merged: "
        "put that part into a module of its own and give it the tensor as an argument"
    )


def _all_completed(trial: Trial, pairs: list[Pair]) -> list[Sites]:
    """Return the first completed sites that are worth it, or nothing; see :func:`_completed`."""
    found = (_completed(trial, pair) for pair in pairs)
    return list(islice((sites for sites in found if sites is not None and _worth(sites) >= HALF), 1))


def _completed(trial: Trial, pair: Pair) -> Sites | None:
    """Return the sites of a pair with those of the answers that it leaves to mixtures, separated as they are returned.

    Only of pairs that were run, and at which some answers were right.
    """
    sites = Sites(*pair)
    astray = trial.astray(sites)
    parts = returned(trial.trace, astray)
    if not parts:
        return None
    whole = replace(sites, demux=(*sites.demux, *parts))
    if trial.check(whole, known=False).match != "exact":
        return None
    return replace(whole, share=trial.share(whole))


def _worth(sites: Sites) -> float:
    return 1.0 if sites.share is None else sites.share


def _runs_besides(trial: Trial, sites: Sites) -> bool:
    """Whether so much of what lies between sites runs for every row that less than half of the operations do not."""
    return _worth(sites) < min(HALF, share_between(trial.trace, sites.mux, sites.demux) or 0)


def _what(trial: Trial) -> str:
    name = type(trial.backbone).__name__
    if not trial.prefix:
        return f"{name}; name mux_at= and demux_at="
    return (
        f"{name} with a prefix of {trial.prefix} tokens before every mixture, which has to be a sequence of tokens all the "
        "way; take a demuxer without a prefix ('key', 'mlp', 'unbind'), or name mux_at= and demux_at="
    )


def verify(components: Components, example: Any) -> None:
    """Run a freshly built model once.

    A call with padding differs from one without only where instances are mixed, so it is run no further.

    Raises:
        MuxwrapError: the strategy or the demuxer does not work there.
    """
    outcome: object = None
    with quiet(*components.added):
        if components.sites.masked:
            outcome = mixing_fails(components, padded(example, PADDED_ROWS))
        if outcome is None:
            with attached(components) as multiplexed:
                outcome = answers(components.backbone, example, ROWS, multiplexed)
    if isinstance(outcome, str):
        raise MuxwrapError(f"a dry run of {ROWS} rows fails: {outcome}")


def _exact(
    trial: Trial, pair: tuple[tuple[Site, ...], tuple[Site, ...]], second_best: list[Sites], failures: list[str]
) -> Sites | None:
    """Return sites of a pair of candidates that match the bare model; add what is second best, or why there is nothing."""
    problems = []
    if {(site.path, site.side) for site in pair[0]} & {(site.path, site.side) for site in pair[1]}:
        return None  # nothing runs between
    for mask, mask_at, sides in _ways(trial, pair):
        sites = Sites(*pair, mask, mask_at, attending_all(sides))
        verdict = trial.check(sites)
        if verdict.match == "exact" and any(side.kind == "same" for side in sides):
            second_best.append(sites)  # only where rows of a mixture agree
            return None
        if verdict.match == "exact":
            return (
                replace(sites, sides=sides)
                if reads_no_padding(trial.backbone, trial.runs.example, sites, sides)
                else sites
            )
        unproven = verdict.problem is None and not trial.reproducible and mask is not MaskMode.SIZE
        if verdict.match == "sound" or unproven:
            second_best.append(sites)
        problems.append(verdict.problem or "copies of one input do not get the bare model's answer to it")
    mux, demux = (" and ".join(map(str, sites)) for sites in pair)
    failures.append(f"mix {mux}, separate {demux}: {'; '.join(dict.fromkeys(problems))}")
    return None


_ENOUGH_SECOND_BEST = 20  # then there is hardly an exact one to come


def _ways(trial: Trial, pair: tuple[tuple[Site, ...], tuple[Site, ...]]) -> Iterator[_Way]:
    """Yield how what the modules between are given besides may be taken: by the name of the mask, or as it is found there."""
    yield from ((mask, mask_at, ()) for mask, mask_at in mask_modes(trial, pair[0]))
    of_backbone = pair[0][0].path == "" and pair[1][0].path != ""
    for whole in (False, True) if of_backbone else (False,):
        sides = trial.sides_between(*pair, whole)
        # Copies of one row agree in everything; rows do not agree in what a model is given of them besides what is mixed.
        if sides and not any(side.kind == "same" and side.path == "" for side in sides):
            yield MaskMode.NONE, "", sides


_Way = tuple[MaskMode, str, tuple[SideInput, ...]]
