"""Which hooks mix and separate in a backbone that nobody edits, and on which of its modules, in the order of putting on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import nn

from muxwrap._hooks import placing, side_inputs, sides
from muxwrap._hooks.components import Components
from muxwrap._hooks.embeddings import taker_of_embeds
from muxwrap._hooks.fitting import fit_arguments, read_padding
from muxwrap._hooks.mixing import insert_ids, mix_embeds, mix_input, mix_output, start_chunks, widen
from muxwrap._hooks.separating import separate_input, separate_output
from muxwrap._hooks.trunk import layer_at, layers_between
from muxwrap._hooks.widening import stem_at
from muxwrap.site import MaskMode, Site

_AT_BACKBONE = {
    MaskMode.INSIDE: side_inputs.read,
    MaskMode.IGNORED: side_inputs.drop,
    MaskMode.SIZE: side_inputs.put_stand_in,
}
"""What is done to the side inputs of the whole backbone's call; elsewhere they are merged at ``mask_at``."""


class Planned(NamedTuple):
    """A hook that is to be put on.

    Args:
        module: on which.
        before: whether it acts before the module's forward or after it.
        do: what it does; called with the running call, ``which``, and what torch gives a hook.
        which: site, path or number it acts for.
    """

    module: nn.Module
    before: bool
    do: Callable[..., Any]
    which: tuple[object, ...] = ()


def hooks_for(model: Components) -> Iterator[Planned]:
    """Yield the hooks of a model; those on one module act in this order."""
    yield from _of_side_inputs(model)
    for path in dict.fromkeys(side.first[0] for side in model.sites.sides if side.first is not None):
        yield _before(model.backbone.get_submodule(path), sides.read, path)
    for k, site in enumerate(model.sites.mux):
        yield from _of_mixing(model, k, site)
    for path in dict.fromkeys(side.path for side in model.sites.sides):
        yield _before(model.backbone.get_submodule(path), sides.merge, path)
    for k, site in enumerate(model.sites.demux):
        module = model.backbone.get_submodule(site.path)
        if site.side == "input":
            yield _before(module, separate_input, k)
        else:
            yield _after(module, separate_output, k)


def _of_side_inputs(model: Components) -> Iterator[Planned]:
    mode = MaskMode(model.sites.mask)
    if model.strategy.places_tokens:
        yield _before(model.backbone, placing.read_rows)
    elif mode in _AT_BACKBONE:
        yield _before(model.backbone, _AT_BACKBONE[mode])
    elif mode is not MaskMode.NONE:
        yield _before(model.backbone.get_submodule(model.sites.mask_at), side_inputs.merge)


def _of_mixing(model: Components, k: int, site: Site) -> Iterator[Planned]:
    if model.strategy.places_tokens:
        yield _before(layer_at(model.backbone, site), read_padding)
    yield from _at_input(model, k, site) if site.side == "input" else _at_output(model, k, site)
    if model.strategy.places_tokens:
        yield from _of_places(model, site)
    elif model.sites.mask in (MaskMode.INSIDE, MaskMode.BOTH):
        for layer in side_inputs.layers_after(model.backbone, site):
            yield _before(layer, side_inputs.merge_unnamed)


def _at_input(model: Components, k: int, site: Site) -> Iterator[Planned]:
    yield _before(model.backbone.get_submodule(site.path), mix_input, k)
    stem = stem_at(model.backbone, site, model.strategy.dim) if len(model.widenings) else None
    if stem is not None:
        yield _after(stem, widen, k)


def _at_output(model: Components, k: int, site: Site) -> Iterator[Planned]:
    module = model.backbone.get_submodule(site.path)
    yield _before(module, side_inputs.restore)
    taker = taker_of_embeds(model.backbone, site.path)
    if model.demuxer.uses_sentinel_ids:
        yield _before(module, insert_ids)
    elif taker is not None:
        yield _before(taker, mix_embeds, k)
    yield _before(module, start_chunks, k)
    yield _after(module, mix_output, k)


def _of_places(model: Components, site: Site) -> Iterator[Planned]:
    again, times = dict(getattr(model.strategy, "again", ())), 1
    for at, layer in enumerate(layers_between(model.backbone, site, model.sites.demux[0])):
        if at in again:
            times *= again[at]
            yield _before(layer, placing.place_again, times)
        yield _before(layer, fit_arguments)


def _before(module: nn.Module, do: Callable[..., Any], *which: object) -> Planned:
    return Planned(module, True, do, which)


def _after(module: nn.Module, do: Callable[..., Any], *which: object) -> Planned:
    return Planned(module, False, do, which)
