"""Any module: sites from nothing but the order in which its layers run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.site import Side, Site
from muxwrap.sites.families.branches import (
    after_joins,
    beside_packed,
    first_layers,
    heavy_branches,
    readers_of_given,
    told_padding,
)
from muxwrap.sites.families.heads import before_makers, with_peers
from muxwrap.sites.families.returned import returned_maps
from muxwrap.sites.families.stems import blocks_around, first_layer, parents, soon_after
from muxwrap.sites.tracing.resolve import inputs_of, is_answer, site_at
from muxwrap.sites.tracing.trace import Trace, Visit, has_weights
from muxwrap.sites.tracing.weight import LEAST, is_narrow


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
    begin = first_layer(trace)
    for first in first_layers(trace, begin):
        yield from _around(trace, first)
    yield from _branches(trace, trace.leaves())
    yield from beside_packed(trace, _readers(trace, trace.leaves()))
    heavy = list(heavy_branches(trace))
    for branches in heavy:
        begins = [_first_inside(trace, branch) for branch in branches]
        if len(branches) == 1:
            yield from _around(trace, begins[0])
        else:
            yield from _after(trace, begins)
            yield from _together(trace, branches, "input")
    yield from _of_floats(trace, trace.visits[0] if trace.visits else None)
    for branches in heavy:  # one alone may be all of the model, and what it is given the whole image
        if len(branches) == 1:
            yield from _together(trace, branches, "input")
    if begin is not None:
        for path in (begin.path, *parents(begin.path)):
            yield from _of_floats(trace, trace.at(path))
    given = [trace.visits[0], *(visit for branches in heavy for visit in branches)]
    for several in (inputs_of(trace, visit) for visit in given):
        if several:
            yield several
    for visit in after_joins(trace)[:3]:
        yield from _single(trace, visit, "input")
        readers = (leaf for leaf in trace.leaves() if leaf.input is visit.input)
        for leaf in islice(readers, 1):  # of few numbers that are joined there, such as coordinates, it makes more
            yield from _single(trace, leaf, "output")
    yield from _branches(trace, trace.once)  # whole blocks: something goes around their first layers
    yield from _after(trace, readers_of_given(trace))
    yield from _beginnings(trace)


def _around(trace: Trace, first: Visit) -> Iterator[tuple[Site, ...]]:
    """What is told padding after a first layer, the layer itself and its blocks, and what follows."""
    for visit in soon_after(trace, first):
        if told_padding(visit):
            yield from _single(trace, visit, "input")
    yield from _single(trace, first, "output")
    for visit in blocks_around(trace, first):
        yield from _single(trace, visit, "output")
    for visit in soon_after(trace, first)[:4]:
        yield from _single(trace, visit, "input")


def _of_floats(trace: Trace, visit: Visit | None) -> Iterator[tuple[Site, ...]]:
    """What a module is given, where it can be mixed."""
    if visit is not None and visit.input is not None and visit.input.floating:
        yield from _single(trace, visit, "input")


def _branches(trace: Trace, visits: list[Visit]) -> Iterator[tuple[Site, ...]]:
    """After those of the visits that read the inputs, where a model reads several, such as a user and an item, in branches.

    What one branch makes of the mixtures and another of the rows does not go together, so all are mixed.
    """
    readers = _readers(trace, visits)
    if len(readers) > 1:
        yield from _after(trace, readers)


def _beginnings(trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the modules that run first, two or more of which do not read each other: some may read what was made of an input.

    Such as waves of a time step, beside what reads the noisy image itself.
    """
    own = _own(trace)
    for begun in (own[:count] for count in range(2, _BRANCHES + 1)):
        read = {visit.input.memory for visit in begun if visit.input is not None}
        ends = [visit for visit in begun if visit.output is not None and visit.output.memory not in read]
        if len(ends) > 1:
            yield from _after(trace, ends)


_BRANCHES = 4  # that a model begins in, at the most, if some of them read what it makes of its inputs


def _after(trace: Trace, visits: list[Visit]) -> Iterator[tuple[Site, ...]]:
    """The outputs of modules, where one strategy can mix them all."""
    sites = [site_at(trace, visit.path, "output") for visit in visits]
    found = tuple(site for site in sites if site is not None)
    if len(found) == len(sites) and len({site.dim for site in found}) == 1:
        yield found


def _first_inside(trace: Trace, branch: Visit) -> Visit:
    """Return the first layer of a branch."""
    return next(leaf for leaf in trace.leaves() if leaf.path.startswith(branch.path + "."))


def _readers(trace: Trace, visits: list[Visit]) -> list[Visit]:
    """Return the visits, in the order of entering, that are the first to read a tensor of the call."""
    inside = [visit for visit in visits if visit.path and visit.input is not None]
    first = (next((v for v in inside if v.input.memory == given.memory), None) for given in trace.given)  # type: ignore[union-attr]
    return list({visit.path: visit for visit in first if visit is not None}.values())


def raw_images(trace: Trace, pixels: int) -> Iterator[tuple[Site, ...]]:
    """The input of the backbone, or of one encoder of several, where it is images of so many pixels that a convolution reads.

    Where the backbone makes images of what it is given (bytes, channels last or none), that of the module that gets these.
    Not one that embeds patches: they meet only in the trunk, and after such a stem mixing is hardly dearer.
    """
    first = first_layer(trace)
    if first is None or not isinstance(first.module, nn.Conv2d) or first.module.kernel_size == first.module.stride:
        return
    given = filter(None, (trace.encoder, trace.visits[0]))
    found = [site for visit in given for (site,) in _single(trace, visit, "input")]
    whole = [site for site in found if site.pixels and site.axis is None]
    yield from ((site,) for site in whole or _made_images(trace, first) if site.pixels >= pixels)


def _made_images(trace: Trace, first: Visit) -> Iterator[Site]:
    """Yield where the backbone's own module gets all numbers that the backbone is given, as images that a layer reads first."""
    image, given, kernel = first.input, trace.visits[0].input, first.module.kernel_size
    if image is None or given is None or image.ndim != 4 or math.prod(image.shape) != math.prod(given.shape):
        return
    if any(size <= reach for size, reach in zip(image.shape[2:], kernel, strict=True)):  # type: ignore[arg-type]
        return  # it reads whole words or spectra, in which nothing is moved
    reader = next(visit for visit in trace.visits if visit.input is image)
    if trace.at(reader.path) is not None:
        yield Site(reader.path, "input", None, math.prod(image.shape[1:]), shape=image.shape[1:])


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the heads that make the answers; before the last layer and its like; what is given padding; what is returned."""
    yield from before_makers(trace)
    leaves = trace.leaves()
    yield from _together(trace, _readers_of_last(trace), "input")
    for visit in leaves[-1:]:
        yield from with_peers(backbone, trace, visit)
    told = [visit for visit in trace.once if told_padding(visit)]
    if told:  # what pools tokens after it reads the padding, too
        yield from _single(trace, max(told, key=lambda visit: visit.left), "output")
    for visit in leaves[-2:-1]:
        yield from with_peers(backbone, trace, visit)
    for branches in heavy_branches(trace):
        yield from _before_few(trace, branches)
        yield from _together(trace, branches, "output")
    for visit in leaves[-1:]:
        if _is_read(trace, visit):
            yield from _single(trace, visit, "output")
    maps = returned_maps(trace)
    if maps and not _readers_of_last(trace):  # what heads make of tokens are answers
        yield maps
    yield from _single(trace, trace.visits[0], "output")


def late_demux_candidates(trace: Trace) -> Iterator[tuple[Site, ...]]:
    """After the backbone's own modules, the last first, without the one that makes the answer.

    What it reads after them together with what came with the rows (padding, a length, the image itself) is given rows then.
    """
    for visit in _own(trace)[-2 : -2 - _LATE : -1]:
        yield from _single(trace, visit, "output")


def _own(trace: Trace) -> list[Visit]:
    """Return the visits of modules with weights that the backbone itself calls, once each, in the order of running."""
    found: list[Visit] = []
    for visit in trace.once:
        if visit.path and has_weights(visit.module) and not (found and visit.entered < found[-1].left):
            found.append(visit)
    return found


def _readers_of_last(trace: Trace) -> tuple[Visit, ...]:
    """Return the modules that read the same tensor as the last one does, if there are others: policy and value, say."""
    own = _own(trace)
    found = tuple(visit for visit in own if visit.input is not None and visit.input is own[-1].input)
    return found if len(found) > 1 else ()


_LATE = 4  # modules between the trunk and the answer, at the most


def _before_few(trace: Trace, branches: tuple[Visit, ...]) -> Iterator[tuple[Site, ...]]:
    """Before the last layers of branches where one of them makes few numbers of a row, in which others have no room."""
    ends = [site for visit in branches for site in (site_at(trace, visit.path, "output"),) if site is not None]
    if not any(is_narrow(site) for site in ends):
        return
    last = [next(v for v in reversed(trace.leaves()) if v.path.startswith(branch.path + ".")) for branch in branches]
    yield from _together(trace, tuple(last), "input")


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
