"""Which strategy and which demuxer, where the user names none, and what a choice asks of the sites."""

from __future__ import annotations

from functools import partial

from muxwrap import demuxers, strategies
from muxwrap.demuxers.base import Demuxer
from muxwrap.site import Site
from muxwrap.strategies.base import Strategy
from muxwrap.strategies.checks import DENSE_LIMIT
from muxwrap.strategies.features.identity import Identity

StrategyChoice = str | type[Strategy] | partial[Strategy] | Strategy | None
DemuxChoice = str | type[Demuxer] | partial[Demuxer] | Demuxer | None

SMALLEST_CELL = 49  # pixels; a smaller cell holds too little of an image
LARGEST_ROW = 1024  # numbers of a whole image or film; a matrix over more of them costs more than what small models do
SMALLEST_SLOT = 4  # features; a smaller slot holds too little of an instance


def default_strategy(n: int, site: Site, raw_images: bool = True) -> str:
    """Return the name of the strategy for n instances at a site where the user named none.

    One instance is left as it is. Strategies that keep instances apart learn fastest: cells for raw images, slots for
    features, as long as there are enough features for a slot each and few enough for a matrix over them; else codes.
    ``raw_images=False`` is for images of which the model reads a part.
    """
    if n == 1:
        return "identity"
    raw = site.axis is None or (not site.path and site.side == "input")  # whose channels may come last
    if raw_images and raw and site.pixels >= image_pixels(None, n):
        return "layout"
    largest = DENSE_LIMIT if site.axis is not None else LARGEST_ROW
    return "slots" if n * SMALLEST_SLOT <= site.dim <= largest else "hadamard"


def default_demuxer(strategy: Strategy) -> str:
    """Return the name of the demuxer where the user named none: layers of its own for every index.

    An instance that is not bound needs none, so that ``n=1`` is the bare model. A strategy may have a demuxer of its own.
    """
    if strategy.own_demuxer is not None:
        return strategy.own_demuxer
    return "unbind" if strategy.n == 1 and isinstance(strategy, Identity) else "mlp"


def strategy_class(choice: StrategyChoice) -> type[Strategy]:
    """Return the class of the chosen strategy; where the user chose none, what they have in common.

    Raises:
        MuxwrapError: the choice is not a strategy.
    """
    if choice is None:
        return Strategy
    return type(choice) if isinstance(choice, Strategy) else strategies.registry.class_of(choice)


def image_pixels(choice: StrategyChoice, n: int) -> int:
    """Return how many pixels a raw image needs so that raw images are mixed; 0 where they are not.

    They are for strategies that give each image a place of its own, the default for raw images included. Images that lie
    on top of each other are mixed better after the stem.
    """
    if choice is None:
        return n * SMALLEST_CELL if n > 1 else 0
    cls = strategy_class(choice)
    return n if cls.sees == "image" and cls.disjoint else 0


def prefix_length(choice: DemuxChoice, n: int) -> int:
    """Return how many tokens the chosen demuxer puts before every mixture; the sites have to allow for them."""
    if isinstance(choice, Demuxer):
        return choice.prefix_length
    return 0 if choice is None else demuxers.registry.class_of(choice).prefix_for(n)
