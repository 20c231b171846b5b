"""Find where to mix and where to separate: candidates in the order of preference, each tried on the backbone itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Literal

from torch import nn

from muxwrap.attach import Attached, takes_mask
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site, Sites
from muxwrap.sites import generic, timm, torchvision, transformers
from muxwrap.sites.probe import ROWS, Trace, trace, with_rows
from muxwrap.sites.resolve import site_from
from muxwrap.sites.trial import Trial, answers
from muxwrap.tensors import tensors_in

FAMILIES = (transformers, timm, torchvision, generic)
"""In the order of asking; each says what it matches, makes an example and names candidates."""

Choice = str | nn.Module | Site | Iterable[str | nn.Module | Site] | None


def find_sites(
    backbone: nn.Module, example_input: Any = None, *, mux_at: Choice = None, demux_at: Choice = None
) -> Sites:
    """Find the sites of a backbone.

    Candidates come from the model's family (timm's metadata, the structure of Transformers models, or just the order in
    which the modules run) and each is tried in a dry run of three rows on the backbone itself; the first that gives three
    rows back is taken. The backbone is left as it was.

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
    return search(backbone, example_input, mux_at=mux_at, demux_at=demux_at)[0]


def search(
    backbone: nn.Module, example_input: Any, *, mux_at: Choice, demux_at: Choice, prefix: int = 0
) -> tuple[Sites, Any]:
    """Do what :func:`find_sites` says, and return also the example of three rows that they were tried on.

    Where the demuxer puts a prefix before every mixture, only sites that stand it are taken.
    """
    family = next(family for family in FAMILIES if family.matches(backbone))
    example = with_rows(example_input if example_input is not None else family.example(backbone))
    seen = trace(backbone, example)
    mux = _chosen(seen, backbone, mux_at, "output", "mux_at") or list(family.mux_candidates(backbone, seen))
    demux = _chosen(seen, backbone, demux_at, "input", "demux_at") or list(family.demux_candidates(backbone, seen))
    trial = Trial(backbone, example, prefix)
    working: list[Sites] = []
    failures: list[str] = []
    for pair in product(dict.fromkeys(mux), dict.fromkeys(demux)):
        sites = _working(trial, seen, pair, failures)
        if sites is not None and trial.faithful(sites):
            return trial.narrowed(sites), example
        working += [] if sites is None else [sites]
    if working:  # as good as it gets where a model's answers are random, or depend on what else is in the batch
        return trial.narrowed(working[0]), example
    tried = "\n".join(f"  {line}" for line in failures) or "  (no candidate)"
    without = f" or take a demuxer without a prefix ({prefix} tokens before every mixture)" if prefix else ""
    raise MuxwrapError(
        f"no way found to multiplex {type(backbone).__name__}; name mux_at= and demux_at= yourself{without}. Tried:\n{tried}"
    )


def verify(attached: Attached, example: Any) -> None:
    """Run a freshly attached model once; take its hooks off again if it fails.

    Raises:
        MuxwrapError: the strategy or the demuxer does not work there.
    """
    outcome = answers(attached, example, attached.sites.mask != "none")
    if isinstance(outcome, str):
        attached.detach()
        raise MuxwrapError(f"a dry run of {ROWS} rows fails: {outcome}")


def _chosen(
    seen: Trace, backbone: nn.Module, choice: Choice, side: Literal["input", "output"], argument: str
) -> list[tuple[Site, ...]]:
    if choice is None:
        return []
    several = choice if isinstance(choice, (list, tuple)) else [choice]
    return [tuple(site_from(seen, backbone, one, side, argument) for one in several)]


def _working(
    trial: Trial, seen: Trace, pair: tuple[tuple[Site, ...], tuple[Site, ...]], failures: list[str]
) -> Sites | None:
    """Return sites at which a pair of candidates works, or None with the reasons added to the failures."""
    problems = []
    for mask, mask_at in _mask_modes(trial, seen, pair[0]):
        sites = Sites(*pair, mask=mask, mask_at=mask_at)
        problem = trial.problem(sites)
        if problem is None:
            return sites
        problems.append(problem)
    mux, demux = (" and ".join(map(str, sites)) for sites in pair)
    failures.append(f"mix {mux}, separate {demux}: {'; '.join(dict.fromkeys(problems))}")
    return None


def _mask_modes(
    trial: Trial, seen: Trace, mux: tuple[Site, ...]
) -> list[tuple[Literal["none", "optional", "always"], str]]:
    """Return how the mask may be taken, and by which module: the model inside a head, or the whole backbone."""
    if not takes_mask(trial.backbone) or all(t.is_floating_point() for t in tensors_in(trial.example)):
        return [("none", "")]
    inside = [
        v.path for v in seen.once if v.path and takes_mask(v.module) and all(_within(s.path, v.path) for s in mux)
    ]
    places = [*inside[:1], ""]
    return [("optional", place) for place in places] + [("always", place) for place in places]


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer + ".")
