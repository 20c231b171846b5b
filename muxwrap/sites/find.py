"""Find where to mix and where to separate: candidates in the order of preference, each tried on the backbone itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from muxwrap.attach import MASK, Attached, takes_mask
from muxwrap.demuxers.unbind import Unbind
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site, Sites
from muxwrap.sites import generic, timm, torchvision, transformers
from muxwrap.sites.probe import ROWS, Trace, quiet, run, trace, with_rows
from muxwrap.sites.resolve import site_from
from muxwrap.strategies.identity import Identity
from muxwrap.tensors import first_tensor

FAMILIES = (transformers, timm, torchvision, generic)
"""In the order of asking; each says what it matches, makes an example and names candidates."""

Choice = str | nn.Module | Site | Iterable[str | nn.Module | Site] | None


def find_sites(backbone: nn.Module, example_input: Any = None, *, mux_at: Choice = None, demux_at: Choice = None) -> Sites:
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


def search(backbone: nn.Module, example_input: Any, *, mux_at: Choice, demux_at: Choice) -> tuple[Sites, Any]:
    """Do what :func:`find_sites` says, and return also the example of three rows that they were tried on."""
    family = next(family for family in FAMILIES if family.matches(backbone))
    example = with_rows(example_input if example_input is not None else family.example(backbone))
    seen = trace(backbone, example)
    mux = _chosen(seen, backbone, mux_at, "output", "mux_at") or list(family.mux_candidates(backbone, seen))
    demux = _chosen(seen, backbone, demux_at, "input", "demux_at") or list(family.demux_candidates(backbone, seen))
    failures: list[str] = []
    for pair in product(mux, demux):
        works = _try(backbone, seen, pair, example, failures)
        if works is not None:
            return works, example
    tried = "\n".join(f"  {line}" for line in failures) or "  (no candidate)"
    raise MuxwrapError(
        f"no way found to multiplex {type(backbone).__name__}; name mux_at= and demux_at= yourself. Tried:\n{tried}"
    )


def verify(attached: Attached, example: Any) -> None:
    """Run a freshly attached model once; take its hooks off again if it fails.

    Raises:
        MuxwrapError: the strategy or the demuxer does not work there.
    """
    problem = _rows_kept(attached, _examples(attached.sites.mask, example))
    if problem is not None:
        attached.detach()
        raise MuxwrapError(f"a dry run of {ROWS} rows fails: {problem}")


def _chosen(
    seen: Trace, backbone: nn.Module, choice: Choice, side: Literal["input", "output"], argument: str
) -> list[tuple[Site, ...]]:
    if choice is None:
        return []
    several = choice if isinstance(choice, (list, tuple)) else [choice]
    return [tuple(site_from(seen, backbone, one, side, argument) for one in several)]


def _try(
    backbone: nn.Module, seen: Trace, pair: tuple[tuple[Site, ...], tuple[Site, ...]], example: Any, failures: list[str]
) -> Sites | None:
    """Return working sites for a pair of candidates, or None with the reason added to the failures."""
    problem = ""
    for mask, mask_at in _mask_modes(backbone, seen, pair[0], example):
        sites = Sites(*pair, mask=mask, mask_at=mask_at)
        problem = _dry_run(backbone, sites, example) or ""
        if not problem:
            return _narrowed(backbone, sites, example)
    failures.append(f"mix {pair[0][0]}, separate {pair[1][0]}: {problem}")
    return None


def _mask_modes(
    backbone: nn.Module, seen: Trace, mux: tuple[Site, ...], example: Any
) -> list[tuple[Literal["none", "optional", "always"], str]]:
    """Return how the mask may be taken, and by which module: the model inside a head, or the whole backbone."""
    if not takes_mask(backbone) or all(t.is_floating_point() for t in _tensors(example)):
        return [("none", "")]
    inside = [v.path for v in seen.once if v.path and takes_mask(v.module) and all(_within(s.path, v.path) for s in mux)]
    places = [*inside[:1], ""]
    return [("optional", place) for place in places] + [("always", place) for place in places]


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer + ".")


def _dry_run(backbone: nn.Module, sites: Sites, example: Any) -> str | None:
    """Multiplex two by two with nothing but a mean, and return what went wrong."""
    attached = _attach_trial(backbone, sites)
    try:
        return _rows_kept(attached, _examples(sites.mask, example))
    finally:
        attached.detach()


def _rows_kept(attached: Attached, examples: list[Any]) -> str | None:
    try:
        with quiet(attached):
            for example in examples:
                output = first_tensor(run(attached, example))
                if output is None or output.shape[0] != ROWS:
                    return f"{ROWS} rows in, {None if output is None else output.shape[0]} rows out"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)}"
    return None


def _examples(mask: str, example: Any) -> list[Any]:
    """Return the example, with and without padding where the backbone takes a mask."""
    if mask == "none":
        return [example]
    masked = _masked(example)
    return [masked, {key: value for key, value in masked.items() if key != MASK}]


def _attach_trial(backbone: nn.Module, sites: Sites) -> Attached:
    strategy = Identity(2, sites.mux[0].dim)
    demuxers = [Unbind(2, site.dim, strategy=Identity(2, site.dim)) for site in sites.demux]
    return Attached(backbone, 2, sites, strategy, demuxers)


def _masked(example: Any) -> dict[str, Any]:
    """Return keyword arguments with a mask that pads the end of the first row."""
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    tokens = first_tensor(arguments)
    assert tokens is not None
    mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    mask[0, -2:] = 0
    return {**arguments, MASK: mask}


def _narrowed(backbone: nn.Module, sites: Sites, example: Any) -> Sites:
    """Separate the first token only, where the head reads no other: the answers have to stay the same."""
    if len(sites.demux) > 1 or sites.demux[0].axis != -1:
        return sites
    narrow = replace(sites, demux=(replace(sites.demux[0], first_token=True),))
    if _dry_run(backbone, narrow, example) is not None:
        return sites
    full, first = (_answers(backbone, one, example) for one in (sites, narrow))
    same = len(full) == len(first) and all(
        a.shape == b.shape and torch.allclose(a, b, atol=1e-5, equal_nan=True) for a, b in zip(full, first, strict=True)
    )
    return narrow if same else sites


def _answers(backbone: nn.Module, sites: Sites, example: Any) -> list[Tensor]:
    attached = _attach_trial(backbone, sites)
    try:
        with quiet(backbone):
            return list(_tensors(run(attached, example)))
    finally:
        attached.detach()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "values"):
        yield from _tensors(list(value.values()))
