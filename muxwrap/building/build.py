"""Building a multiplexed model: sites searched, modules made, all tried once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn

from muxwrap._hooks.components import Components
from muxwrap._hooks.widening import widenings
from muxwrap._util.examples import Example
from muxwrap._util.meta import nothing_drawn, on_meta
from muxwrap._util.untouched import untouched
from muxwrap.building.modules import build_demuxers, build_strategy
from muxwrap.building.places import follow_sites
from muxwrap.building.settings import Settings
from muxwrap.defaults import default_strategy, image_pixels, prefix_length, strategy_class
from muxwrap.errors import MuxwrapError, check_count
from muxwrap.sites import check_paths, check_side_by_side, locate, locate_layers
from muxwrap.sites.built.company import check_company
from muxwrap.sites.built.cost import cost, dearer
from muxwrap.sites.built.heard import UnheardError, check_heard
from muxwrap.sites.built.moved import check_order
from muxwrap.sites.built.verify import FirstRun, verify
from muxwrap.sites.locate import Located
from muxwrap.sites.search.advice import crowded, kept_rows


def build(backbone: nn.Module, n: int, settings: Settings) -> Components:
    """Make the components of a multiplexed model.

    Raises:
        MuxwrapError: what cannot work; the backbone is then as it was.
    """
    try:
        check_count(n)
        # What is made in inference mode could never be trained.
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            made, advice = _built(backbone, n, settings)
    except MuxwrapError as error:
        choices = f"strategy={settings.strategy!r}, demux={settings.demux!r}"
        call = f"wrap({type(backbone).__name__}, n={n!r}, {choices})"
        raise MuxwrapError(f"{call}: {error}") from error
    for each in advice if n > 1 else ():
        warnings.warn(f"wrap({type(backbone).__name__}, n={n}): {each}", stacklevel=4)  # at the line that calls wrap
    return made


def _built(backbone: nn.Module, n: int, settings: Settings) -> tuple[Components, list[str]]:
    """Return the components, and what the user should know of them."""
    try:
        return _made(backbone, n, settings, raw_images=True)
    except UnheardError:
        if settings.strategy is not None:
            raise
        return _made(backbone, n, settings, raw_images=False)  # the images were muxwrap's choice


def _made(backbone: nn.Module, n: int, settings: Settings, raw_images: bool) -> tuple[Components, list[str]]:
    """Do what :func:`_built` says, with ``raw_images=False`` without mixing raw images also where they would be preferred."""
    located = _located(backbone, n, settings, raw_images)
    sites = located.sites
    check_paths(backbone, sites)
    with nothing_drawn(on_meta(backbone)):
        strategy = settings.strategy or default_strategy(n, sites.mux[0], raw_images)
        phi = build_strategy(strategy, n, sites, settings.seed)
        separators = nn.ModuleList(build_demuxers(settings.demux, n, sites, phi, settings.seed))
        wide = widenings(backbone, sites, phi)
    made = Components(backbone, n, sites, phi, separators, wide, settings.check_finite)
    made.check()
    with untouched(backbone):
        first = _settle(made, located.example)
    if first.operations and located.operations and made.sites.share is not None:
        made.cost = cost(n, made.sites.share, located.operations, first.operations)
    named = settings.mux_at is not None or settings.demux_at is not None
    return made, [*_advice(made, located, named), *kept_rows(first.of_mixtures)]


def _advice(made: Components, located: Located, named: bool) -> Iterator[str]:
    """Yield what the user should know: of the sites, which may have been named, and of what a row costs."""
    if located.advice is not None:
        yield located.advice
    elif not named and located.example is not None:
        full = list(crowded(made.sites, made.n))
        yield from full if full or made.n == 1 else located.shared
    if made.cost is not None and made.cost >= 1:
        yield dearer(made.cost)


def _located(backbone: nn.Module, n: int, settings: Settings, raw_images: bool) -> Located:
    """Return the sites, and where they had to be found an example of three rows and what the user should know of them."""
    if settings.sites is not None:
        return Located(settings.sites)
    given, mux_at, demux_at = settings.example_input, settings.mux_at, settings.demux_at
    if strategy_class(settings.strategy).places_tokens:
        return Located(*locate_layers(backbone, given, mux_at=mux_at, demux_at=demux_at))
    prefix = prefix_length(settings.demux, n)
    pixels = image_pixels(settings.strategy, n) if raw_images else 0
    return locate(backbone, given, mux_at=mux_at, demux_at=demux_at, prefix=prefix, pixels=pixels)


def _settle(made: Components, example: Example | None) -> FirstRun:
    """Take what was made to the sites, and run the example as far as that tells whether it works there.

    Raises:
        MuxwrapError: it does not.
    """
    follow_sites(made, example)
    if example is None:
        return FirstRun()
    if made.strategy.places_tokens:
        made.sites = check_side_by_side(made, example)
    first = verify(made, example)
    check_company(made, example)
    if made.n > 1:
        check_order(made.backbone, example, made.sites)
    if made.strategy.sees == "image" or any(site.axis is None for site in made.sites.mux):
        check_heard(made, example)
    return first
