"""Going through the pairs of candidates in the order of preference, until one is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from muxwrap.site import Sites
from muxwrap.sites.examples import family_of
from muxwrap.sites.families import generic
from muxwrap.sites.search.chained import chained
from muxwrap.sites.search.masks import reads_ids
from muxwrap.sites.search.none_found import refuse
from muxwrap.sites.search.ordering import Pair, heads_alone, leaves_branch, separates_answers
from muxwrap.sites.search.pair import Tried, completed, exact
from muxwrap.sites.tracing.weight import HALF, LEAST, share_between
from muxwrap.sites.trials.trial import Trial

_ENOUGH_SECOND_BEST = 20  # then there is hardly an exact one to come


def search(trial: Trial, pairs: list[Pair], late: list[Pair], named: bool) -> Sites:
    """Return the first exact pair of candidates that is worth it, the best of the others, or the first of the second best.

    Args:
        trial: of the backbone.
        pairs: in the order of trying.
        late: others, for where none of these works.
        named: whether the user named them, so that the first that works is taken whatever it is worth.

    Raises:
        MuxwrapError: there is none; the message lists what was tried.
    """
    tried = Tried()
    sites = _first(trial, pairs, named, tried)
    if sites is None or _worth(sites) < HALF:
        sites = _beside_ids(trial, pairs, named, tried, sites)
    if sites is None and not tried.second_best:
        sites = _first(trial, late, named, tried)
    sites = sites or _best_left(trial, pairs, tried)
    by_place = family_of(trial.backbone) is not generic
    return refuse(trial, pairs, tried) if sites is None else trial.narrowed(sites, by_place)


def _first(trial: Trial, pairs: list[Pair], named: bool, tried: Tried) -> Sites | None:
    """Return the first exact pair that is worth it, or one that was tried before or can be completed and is worth more."""
    for pair in pairs:
        if any(_worth(each) >= HALF for each in tried.light) and separates_answers(trial.trace, pair[1]):
            continue  # features are better separated, if half is mixed with them
        worthless = not named and (heads_alone(trial.trace, pair) or chained(trial.runs, pair))
        sites = None if worthless else exact(trial, pair, tried)
        if sites is not None:
            sites = replace(sites, share=trial.share(sites))
            if named or not (_runs_besides(trial, sites) or leaves_branch(trial.trace, pair)):
                whole = [] if named or _worth(sites) >= HALF else _first_completed(trial, pairs)
                return _best((sites, *tried.light, *whole))
            tried.light.append(sites)
        if len(tried.second_best) > _ENOUGH_SECOND_BEST:
            break
    return None


def _beside_ids(trial: Trial, pairs: list[Pair], named: bool, tried: Tried, sites: Sites | None) -> Sites | None:
    """Return sites with a stand-in for ids, where a backbone reads the size of its batch of ids, if they are worth more.

    They come after the others: positions that are as many as the ids would be added to mixtures.
    """
    reading = [pair for pair in pairs if reads_ids(trial.trace, pair[0])]
    if not reading or trial.masked:
        return sites
    trial.ids_stood_in = True
    found = _first(trial, reading, named, tried)
    return _best([each for each in (sites, found) if each is not None]) if sites or found else None


def _best_left(trial: Trial, pairs: list[Pair], tried: Tried) -> Sites | None:
    """Return the best of what was tried where no exact pair is worth it."""
    whole = [] if tried.second_best else _first_completed(trial, pairs)
    light = [*tried.light, *whole]
    if light and _worth(_best(light)) >= LEAST:
        return _best(light)
    if tried.second_best:
        return replace(tried.second_best[0], share=trial.share(tried.second_best[0]))
    return None


def _first_completed(trial: Trial, pairs: list[Pair]) -> list[Sites]:
    """Return the first completed sites that are worth it, or nothing; see :func:`~muxwrap.sites.search.pair.completed`."""
    found = (completed(trial, pair) for pair in pairs)
    return list(islice((sites for sites in found if sites is not None and _worth(sites) >= HALF), 1))


def _best(found: Iterable[Sites]) -> Sites:
    return max(found, key=_worth)


def _worth(sites: Sites) -> float:
    return 1.0 if sites.share is None else sites.share


def _runs_besides(trial: Trial, sites: Sites) -> bool:
    """Whether so much of what lies between sites runs for every row that less than half of the operations do not."""
    return _worth(sites) < min(HALF, share_between(trial.trace, sites.mux, sites.demux) or 0)
