"""Sites between two layers of a trunk, for strategies whose mixtures have tokens of their own.

The trunk's layers are found in a trace; that they answer to masks and positions alone, and to nothing else of where a
token is, is tried on the backbone itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from muxwrap._hooks.fitting import mask_name
from muxwrap._hooks.trunk import list_around
from muxwrap._util.examples import ROWS, Example, with_rows
from muxwrap._util.progress import progress_line
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.sites.examples import example_of
from muxwrap.sites.runs.dry_run import padded
from muxwrap.sites.search.candidates import Choice
from muxwrap.sites.tracing.resolve import site_at, site_from
from muxwrap.sites.tracing.trace import Trace, Visit
from muxwrap.sites.trials.first_token import reads_first_alone
from muxwrap.sites.trials.trial import Trial


def locate_layers(
    backbone: nn.Module, example_input: Any, *, mux_at: Choice, demux_at: Choice
) -> tuple[Sites, Example]:
    """Return sites between the layers of a backbone, and an example of three rows.

    By default the first third of the layers is left unmixed, and separated is after the last one.

    Raises:
        MuxwrapError: a named site is none, or there are no layers that pass tokens ``[L, d]`` on.
    """
    with progress_line(f"muxwrap: finding layers in {type(backbone).__name__}"):
        example = example_of(backbone, example_input)
        trial = Trial(backbone, example)
        mux = _with_grid(trial.trace, _mux_site(trial, mux_at))
        demux = _demux_site(trial, mux, demux_at)
        mask = MaskMode.INSIDE if trial.masked else MaskMode.NONE
        return _narrowed(trial, Sites((mux,), (demux,), mask)), example


def _mux_site(trial: Trial, choice: Choice) -> Site:
    if choice is None:
        layers = _layers(trial)
        first = layers[max(1, round(len(layers) / 3)) - 1]
        return _tokens_at(trial, first.path, "output" if len(layers) > 1 else "input")
    if isinstance(choice, (list, tuple)):
        if len(choice) != 1:
            raise MuxwrapError(
                f"mux_at={choice!r} names {len(choice)} sites, and tokens are pooled at one of a trunk; name one layer"
            )
        choice = choice[0]
    return _checked(trial, site_from(trial.trace, trial.backbone, choice, "output", "mux_at"), "mux_at")


def _demux_site(trial: Trial, mux: Site, choice: Choice) -> Site:
    """Return the named site, or the output of the last layer of the list in which is mixed."""
    if isinstance(choice, (list, tuple)):
        if len(choice) != 1:
            raise MuxwrapError(
                f"demux_at={choice!r} names {len(choice)} sites, and pooled tokens are spread out at one; name one module"
            )
        choice = choice[0]
    if choice is not None:
        return site_from(trial.trace, trial.backbone, choice, "input", "demux_at")
    parent, _ = list_around(trial.backbone, mux.path)
    last = list(trial.backbone.get_submodule(parent).named_children())[-1][0]
    return _tokens_at(trial, f"{parent}.{last}", "output")


def _layers(trial: Trial) -> list[Visit]:
    """Return the longest list of layers that pass tokens on, of those that take masks if there are such.

    Raises:
        MuxwrapError: there is none.
    """
    lists: dict[str, list[Visit]] = {}
    for visit in trial.trace.once:
        parent, name = list_around(trial.backbone, visit.path)
        given, made = visit.input, visit.output
        if given is None or made is None or not given.floating or given.shape != made.shape or made.ndim != 3:
            continue
        if visit.path == f"{parent}.{name}":
            lists.setdefault(parent, []).append(visit)
    if not lists:
        raise MuxwrapError(
            f"no list of layers found in {type(trial.backbone).__name__} that pass tokens [rows, L, d] on, each run once; "
            "name one with mux_at="
        )
    return max(lists.values(), key=lambda layers: (mask_name(layers[0].module) is not None, len(layers)))


def _tokens_at(trial: Trial, path: str, side: Any) -> Site:
    site = site_at(trial.trace, path, side)
    if site is None:
        raise MuxwrapError(
            f"the {side} of {path} holds no tokens in a run of the example, or is reached more than once; name another "
            "module with mux_at= and demux_at="
        )
    return site


def _checked(trial: Trial, site: Site, argument: str) -> Site:
    if not list_around(trial.backbone, site.path)[0]:
        raise MuxwrapError(
            f"{argument}={site.path!r} is not inside of a list of layers, and tokens are pooled between two layers of a "
            "trunk; name one of them, such as mux_at='encoder.layer.1'"
        )
    if site.axis != -1 or site.shape is None or len(site.shape) != 2:
        raise MuxwrapError(
            f"the {site} holds rows {list(site.shape or ())}, which are not tokens [L, d]; name a layer that passes tokens on"
        )
    return site


def _with_grid(trace: Trace, site: Site) -> Site:
    """Note the grid of patches of an image, if a convolution made one of as many patches as there are tokens, or fewer."""
    batch, visit = trace.visits[0].input, trace.at(site.path)
    if batch is None or visit is None or not batch.floating or batch.ndim != 4 or site.shape is None:
        return site
    before = [v for v in trace.leaves() if isinstance(v.module, nn.Conv2d) and v.left < visit.left]
    maps = [v.output.shape for v in before if v.output is not None and v.output.ndim == 4]
    grids = [(int(height), int(width)) for _, _, height, width in maps if 1 < height * width <= site.shape[0]]
    return replace(site, grid=grids[-1]) if grids else site


# -- only the first token ---------------------------------------------------------------------------------------------


def _narrowed(trial: Trial, sites: Sites) -> Sites:
    """Separate the first token only, where the bare model's answers do not depend on any other after the site."""
    call, site = with_rows(trial.runs.example, ROWS), sites.demux[0]
    calls = [call, *([padded(trial.runs.example, ROWS)] if sites.masked else [])]
    alone = not trial.runs.scored and all(reads_first_alone(trial.backbone, site, each, ROWS) for each in calls)
    if alone and reads_first_alone(trial.backbone, site, call, ROWS, training=True):
        return replace(sites, demux=(replace(site, first_token=True),))
    return sites
