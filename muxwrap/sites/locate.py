"""Where to mix and where to separate in a backbone: what a user may name of it, and what is found for the rest."""

from __future__ import annotations

from itertools import islice, product
from typing import Any, NamedTuple

from torch import nn

from muxwrap._hooks.adapters import inside, prefix_of
from muxwrap._util.examples import Example
from muxwrap._util.progress import progress_line
from muxwrap._util.untouched import untouched
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sites
from muxwrap.sites.examples import check_example, example_of, family_of
from muxwrap.sites.families import generic, timm
from muxwrap.sites.runs.runs import BARE_ROWS
from muxwrap.sites.search.advice import advice
from muxwrap.sites.search.answers_shared import answers_shared
from muxwrap.sites.search.candidates import Choice, demux_candidates, late_demux_candidates, mux_candidates
from muxwrap.sites.search.inputs_shared import inputs_shared
from muxwrap.sites.search.ordering import heavy, ordered
from muxwrap.sites.search.search import search
from muxwrap.sites.tracing.resolve import without_prefix
from muxwrap.sites.trials.trial import Trial


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
        MuxwrapError: no example, a named site that does not exist or does not run once per call or per input, rows that
            depend on each other, nothing of weight between any two sites, or no candidate works; the message lists what was
            tried.
    """
    return locate(backbone, example_input, mux_at=mux_at, demux_at=demux_at).sites


class Located(NamedTuple):
    """What a search found, or a user gave.

    Args:
        sites: where to mix and to separate.
        example: a call of three rows; None where nothing was run.
        advice: what the user should know of the sites, or None.
        operations: of a row in the bare model; 0 if they were not counted.
        shared: what the user should know where inputs are mixed, or answers separated, themselves.
    """

    sites: Sites
    example: Example | None = None
    advice: str | None = None
    operations: float = 0.0
    shared: tuple[str, ...] = ()


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
        problem = timm.refused_call(backbone, example.call) if timm.matches(backbone) else None
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
        late = late_demux_candidates(trial) if demux_at is None else []
        trial.runs.candidates = tuple(dict.fromkeys(one[0] for one in (*demux, *late)))
        named = mux_at is not None and demux_at is not None
        sites = search(trial, pairs, heavy(trial.trace, mux, late), named)
        if family_of(backbone) is generic:
            trial.matching.check_neighbours()
        told = advice(trial, sites, mux) if mux_at is None else None
        found = sites.renamed(lambda path: outer + path if path else path)
        inputs = inputs_shared(trial.trace, sites) if mux_at is None else ()
        answers = answers_shared(trial.trace, sites) if demux_at is None else ()
        shared = (*islice(inputs, 1), *islice(answers, 1))
        return Located(found, example, told, trial.trace.operations / BARE_ROWS, shared)
