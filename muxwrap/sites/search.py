"""Find where to mix and where to separate: candidates in the order of preference, each tried on the backbone itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Literal

from torch import nn

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.examples import ROWS, quiet, with_rows
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.sites.answers import answers
from muxwrap.sites.families import generic, timm, torchvision, transformers
from muxwrap.sites.resolve import site_from
from muxwrap.sites.trace import Trace, trace
from muxwrap.sites.trial import Trial

FAMILIES = (transformers, timm, torchvision, generic)
"""In the order of asking; each says what it matches, makes an example and names candidates."""

Choice = str | nn.Module | Site | Iterable[str | nn.Module | Site] | None


def find_sites(
    backbone: nn.Module, example_input: Any = None, *, mux_at: Choice = None, demux_at: Choice = None
) -> Sites:
    """Find the sites of a backbone.

    Candidates come from the model's family (timm's metadata, the structure of Transformers models, or just the order in
    which the modules run) and each is tried in a dry run of three rows on the backbone itself; the first that gives three
    rows back is taken. The backbone is left as it was. These are sites for strategies that mix features; one that gives every
    image a place of its own, or none, lets :func:`muxwrap.wrap` mix the raw images of a CNN.

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
        MuxwrapError: no example, a named site that does not exist or does not run exactly once, or no candidate works;
            the message lists what was tried.
    """
    return locate(backbone, example_input, mux_at=mux_at, demux_at=demux_at)[0]


def locate(
    backbone: nn.Module,
    example_input: Any,
    *,
    mux_at: Choice,
    demux_at: Choice,
    prefix: int = 0,
    pixels: int = 0,
) -> tuple[Sites, Any]:
    """Do what :func:`find_sites` says, and return also the example of three rows that they were tried on.

    Where the demuxer puts a prefix before every mixture, only sites that stand it are taken. With ``pixels``, raw images
    of so many or more are preferred, unless what is separated is a map of the image again, where every place counts.
    """
    family = _family(backbone)
    example = example_of(backbone, example_input)
    seen = trace(backbone, example)
    mux = _chosen(seen, backbone, mux_at, "output", "mux_at")
    demux = _chosen(seen, backbone, demux_at, "input", "demux_at") or list(family.demux_candidates(backbone, seen))
    if not mux:
        raw = generic.raw_images(seen, pixels) if pixels and all(site.pixels <= 1 for site in demux[0]) else ()
        mux = [*raw, *family.mux_candidates(backbone, seen)]
    trial = Trial(backbone, example, prefix)
    sites: Sites | None = None
    seconds: list[Sites] = []
    failures: list[str] = []
    for pair in product(dict.fromkeys(mux), dict.fromkeys(demux)):
        sites = _exact(trial, seen, pair, seconds, failures)
        if sites is not None or len(seconds) > _ENOUGH:
            break
    sites = sites or next(iter(seconds), None)
    if sites is not None:
        return trial.narrowed(sites), example
    tried = "\n".join(f"  {line}" for line in failures) or "  (no candidate)"
    raise MuxwrapError(f"no way found to multiplex {_what(backbone, prefix)} yourself. Tried:\n{tried}")


def example_of(backbone: nn.Module, example_input: Any = None) -> Any:
    """Return a call of three rows: the given one, or one that is made from the model's own metadata.

    Raises:
        MuxwrapError: none is given and the model does not say what it takes.
    """
    return with_rows(example_input if example_input is not None else _family(backbone).example(backbone))


def _family(backbone: nn.Module) -> Any:
    return next(family for family in FAMILIES if family.matches(backbone))


def _what(backbone: nn.Module, prefix: int) -> str:
    name = type(backbone).__name__
    if not prefix:
        return f"{name}; name mux_at= and demux_at="
    return (
        f"{name} with a prefix of {prefix} tokens before every mixture, which has to be a sequence of tokens all the way; "
        "take a demuxer without a prefix ('key', 'mlp', 'unbind'), or name mux_at= and demux_at="
    )


def verify(components: Components, example: Any) -> None:
    """Run a freshly built model once.

    Raises:
        MuxwrapError: the strategy or the demuxer does not work there.
    """
    with quiet(components.strategy, components.widenings, components.demuxers), attached(components) as call:
        outcome = answers(components.backbone, example, components.sites.masked, call=call)
    if isinstance(outcome, str):
        raise MuxwrapError(f"a dry run of {ROWS} rows fails: {outcome}")


def _chosen(
    seen: Trace, backbone: nn.Module, choice: Choice, side: Literal["input", "output"], argument: str
) -> list[tuple[Site, ...]]:
    if choice is None:
        return []
    several = choice if isinstance(choice, (list, tuple)) else [choice]
    return [tuple(site_from(seen, backbone, one, side, argument) for one in several)]


def _exact(
    trial: Trial,
    seen: Trace,
    pair: tuple[tuple[Site, ...], tuple[Site, ...]],
    seconds: list[Sites],
    failures: list[str],
) -> Sites | None:
    """Return sites of a pair of candidates that match the bare model; add what is second best, or why there is nothing."""
    problems = []
    for mask, mask_at in _mask_modes(trial, seen, pair[0]):
        sites = Sites(*pair, mask=mask, mask_at=mask_at)
        problem = trial.problem(sites)
        match = "wrong" if problem is not None else trial.match(sites)
        if match == "exact":
            return sites
        if match == "sound" or (problem is None and not trial.reproducible and mask is not MaskMode.SIZE):
            seconds.append(sites)
        problems.append(problem or "copies of one input do not get the bare model's answer to it")
    mux, demux = (" and ".join(map(str, sites)) for sites in pair)
    failures.append(f"mix {mux}, separate {demux}: {'; '.join(dict.fromkeys(problems))}")
    return None


_ENOUGH = 20  # seconds; then there is hardly a first to come


def _mask_modes(trial: Trial, seen: Trace, mux: tuple[Site, ...]) -> list[tuple[MaskMode, str]]:
    """Return how the mask may be taken, and by which module: the model inside a head, or the whole backbone."""
    if not trial.masked:
        return [(MaskMode.NONE, ""), (MaskMode.SIZE, "")] if _reads_batch(seen, mux) else [(MaskMode.NONE, "")]
    inside = [
        v.path for v in seen.once if v.path and takes_mask(v.module) and all(_within(s.path, v.path) for s in mux)
    ]
    places = [*inside[:1], ""]
    modes = (MaskMode.OPTIONAL, MaskMode.ALWAYS, MaskMode.BOTH)
    return [*product(modes, places), (MaskMode.INSIDE, "")]


def _reads_batch(seen: Trace, mux: tuple[Site, ...]) -> bool:
    """Whether every module after which is mixed is given the very batch that the backbone is given."""
    batch = seen.visits[0].input
    if batch is None or not batch.is_floating_point():
        return False
    visits = [seen.at(site.path) for site in mux if site.side == "output"]
    return len(visits) == len(mux) and all(
        visit is not None and visit.path and visit.input is batch for visit in visits
    )


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer + ".")
