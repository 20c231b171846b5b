"""Any module: sites from nothing but the order in which its layers run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from muxwrap._hooks.adapters import outermost
from muxwrap.errors import MuxwrapError
from muxwrap.site import Side, Site
from muxwrap.sites.families.branches import after_joins, first_layers, heavy_branches, told_padding
from muxwrap.sites.families.returned import returned_maps
from muxwrap.sites.resolve import inputs_of, is_answer, site_at, width
from muxwrap.sites.trace import Trace, Visit, has_weights
from muxwrap.sites.weight import LEAST


def matches(backbone: nn.Module) -> bool:
    """Every module."""
    return True


def example(backbone: nn.Module) -> Any:
    """A user-written model says nowhere what it takes.

    Raises:
        MuxwrapError: always; the message asks for an example.
    """
    raise MuxwrapError(
        f"{type(backbone).__name__} does not say what it takes; give example_input= (a tensor, a tuple of arguments or a "
        "dict of keyword arguments), one row is enough"
    )


def mux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Where padding is told, after a first layer and its blocks, before what follows, at the raw input, where branches join.

    Where the first layer is most of the work (a recurrent one, a block that is one layer to the search), before it and
    before the blocks that it begins.
    """
    begin = _first_layer(trace)
    for first in first_layers(trace, begin):
        for visit in _after(trace, first):
            if told_padding(visit):
                yield from _single(trace, visit, "input")
        yield from _single(trace, first, "output")
        for visit in _around(trace, first):
            yield from _single(trace, visit, "output")
        for visit in _after(trace, first)[:4]:
            yield from _single(trace, visit, "input")
    yield from _branches(trace)
    heavy = list(heavy_branches(trace))
    for branches in heavy:
        if len(branches) > 1:
            yield from _together(trace, branches, "input")
    if trace.visits and trace.visits[0].input is not None and trace.visits[0].input.floating:
        yield from _single(trace, trace.visits[0], "input")
    for branches in heavy:  # one alone may be all of the model, and what it is given the whole image
        if len(branches) == 1:
            yield from _together(trace, branches, "input")
    if begin is not None:
        for path in (begin.path, *_parents(begin.path)):
            around = trace.at(path)
            if around is not None and around.input is not None and around.input.floating:
                yield from _single(trace, around, "input")
    given = [trace.visits[0], *(visit for branches in heavy for visit in branches)]
    for several in (inputs_of(trace, visit) for visit in given):
        if several:
            yield several
    for visit in after_joins(trace)[:3]:
        yield from _single(trace, visit, "input")


def _branches(trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the layers that read the inputs, where a model reads several, such as a user and an item, in branches.

    What one branch makes of the mixtures and another of the rows does not go together, so all are mixed.
    """
    leaves = [visit for visit in trace.leaves() if visit.input is not None]
    readers = [[v.path for v in leaves if v.input.memory == given.memory][:1] for given in trace.given]  # type: ignore[union-attr]
    sites = [site_at(trace, path, "output") for path in dict.fromkeys(path for found in readers for path in found)]
    branches = tuple(site for site in sites if site is not None)
    if len(branches) == len(sites) > 1 and len({site.dim for site in branches}) == 1:
        yield branches


def raw_images(trace: Trace, pixels: int) -> Iterator[tuple[Site, ...]]:
    """The backbone's own input where it is images of so many pixels or more, and a convolution reads them first.

    Not one that embeds patches: they meet only in the trunk, and after such a stem mixing is hardly dearer.
    """
    first = _first_layer(trace)
    stem = None if first is None else first.module
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size == stem.stride:
        return
    for (site,) in _single(trace, trace.visits[0], "input"):
        if site.pixels >= pixels:
            yield (site,)


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the heads that make the answers; before the last layer and its like; what is given padding; what is returned."""
    yield from _makers(trace)
    leaves = trace.leaves()
    for visit in leaves[-1:]:
        yield from with_peers(backbone, trace, visit)
    told = [visit for visit in trace.once if told_padding(visit)]
    if told:  # what pools tokens after it reads the padding, too
        yield from _single(trace, max(told, key=lambda visit: visit.left), "output")
    for visit in leaves[-2:-1]:
        yield from with_peers(backbone, trace, visit)
    for branches in heavy_branches(trace):
        yield from _together(trace, branches, "output")
    for visit in leaves[-1:]:
        if _is_read(trace, visit):
            yield from _single(trace, visit, "output")
    maps = returned_maps(trace)
    if maps:
        yield maps
    yield from _single(trace, trace.visits[0], "output")


def with_peers(backbone: nn.Module, trace: Trace, head: Visit) -> Iterator[tuple[Site, ...]]:
    """Yield the sites before a head and its peers, and before the head alone: a peer may be just a layer before it."""
    site = site_at(trace, head.path, "input")
    if site is None:
        return
    auxiliary = auxiliary_heads(backbone, trace, [head])
    kind, parent = _kind(head.module), head.path.rpartition(".")[0]
    siblings = [visit for visit in trace.once if visit.path and visit.path.rpartition(".")[0] == parent]
    alike = [visit for visit in siblings if visit is head or (kind is not None and _kind(visit.module) == kind)]
    sites = [site_at(trace, visit.path, "input") for visit in alike]
    if len(sites) > 1 and all(sites):
        yield (*(site for site in sites if site is not None), *auxiliary)
    yield (site, *auxiliary)


def auxiliary_heads(backbone: nn.Module, trace: Trace, heads: list[Visit]) -> tuple[Site, ...]:
    """Return the sites before heads that run in training only: of the kind and width of a head, and not reached here.

    No run finds them, since a run in training mode would leave its marks on the statistics of batch norms.
    """
    kinds = {_kind(head.module) for head in heads}
    reached = {visit.path for visit in trace.visits}
    unseen = [(path, module) for path, module in outermost(backbone) if path not in reached]
    found = [(path, module) for path, module in unseen if isinstance(module, _HEADS) and _kind(module) in kinds]
    sizes = [(path, -1 if isinstance(module, nn.Linear) else 1, width(module, "input")) for path, module in found]
    return tuple(Site(path, "input", axis, dim) for path, axis, dim in sizes if dim is not None)


def _makers(trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Yield the sites before the layers that make the answers, where a backbone gives several (tasks, say).

    ``squeeze`` makes another tensor of the same numbers.
    """
    answers = [answer for answer in trace.answers if answer.ndim and answer.floating]
    made = [v for v in trace.once if v.path and v.output is not None and v.output.ndim > 1]
    makers = [[v for v in made if v.output.memory == answer.memory] for answer in answers]  # type: ignore[union-attr]
    if len(makers) > 1 and all(makers):
        paths = dict.fromkeys(min(found, key=lambda visit: visit.left).path for found in makers)
        sites = [site_at(trace, path, "input") for path in paths]
        if all(sites):
            yield tuple(site for site in sites if site is not None)


def _kind(module: nn.Module) -> tuple[type[nn.Module], int | None] | None:
    """Return what heads of one model have in common: their class and the width of their last layer."""
    layers = [layer for layer in module.modules() if isinstance(layer, _HEADS)]
    return (type(module), width(layers[-1], "output")) if layers else None


_HEADS = (nn.Linear, nn.Conv2d)
_STEM_SHARE = 0.25  # of the layers; a block that holds more of them is more trunk than stem


def _first_layer(trace: Trace) -> Visit | None:
    """Return the first layer with a weight matrix: raw pixels may pass a norm before it."""
    leaves = trace.leaves()
    return next((visit for visit in leaves if _has_matrix(visit.module)), next(iter(leaves), None))


def _has_matrix(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters()) or callable(getattr(module, "weight", None))


def _around(trace: Trace, first: Visit) -> Iterator[Visit]:
    """Yield the blocks that the first layer is part of, from the smallest on, as long as they are a stem."""
    leaves = trace.leaves()
    for path in _parents(first.path):
        visit = trace.at(path)
        inside = [leaf for leaf in leaves if leaf.path.startswith(path + ".")]
        if visit is not None and len(inside) <= _STEM_SHARE * len(leaves):
            yield visit


def _parents(path: str) -> Iterator[str]:
    """Yield the paths of the modules around one, from the innermost on, without the backbone itself."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _after(trace: Trace, first: Visit) -> list[Visit]:
    """Return the modules entered soon after the first layer was left, one per tensor that they read, without the head."""
    leaves = trace.leaves()
    soon = max(1, int(_STEM_SHARE * len(leaves)))
    found: list[Visit] = []
    for visit in trace.once:
        new = visit.input is not None and all(visit.input is not other.input for other in found)
        late = visit is leaves[-1] or sum(leaf.left < visit.entered for leaf in leaves) > soon
        if visit.entered > first.left and new and not late:
            found.append(visit)
    return found


def _together(trace: Trace, visits: tuple[Visit, ...], side: Side) -> Iterator[tuple[Site, ...]]:
    sites = [site_at(trace, visit.path, side) for visit in visits]
    found = tuple(site for site in sites if site is not None)
    if len(found) == len(sites) > 0 and (side == "output" or len({site.dim for site in found}) == 1):
        yield found  # one strategy mixes them all


def _is_read(trace: Trace, last: Visit) -> bool:
    """Whether much is done with what the last layer makes: by a head that is called often, or by the backbone itself."""
    if isinstance(last.module, nn.Embedding) or is_answer(trace, Site(last.path, "output", -1, 0)):
        return False
    several = any(trace.at(visit.path) is None and has_weights(visit.module) for visit in trace.visits)
    return several or trace.operations - last.after > LEAST * trace.operations


def _single(trace: Trace, visit: Visit, side: Side) -> Iterator[tuple[Site, ...]]:
    site = site_at(trace, visit.path, side)
    if site is not None:
        yield (site,)
