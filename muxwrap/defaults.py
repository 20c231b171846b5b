"""From what the user chose, or did not, to the strategy and the demuxers of a model."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from muxwrap import demuxers, strategies
from muxwrap.demuxers import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.strategies.base import Strategy, list_strategies
from muxwrap.strategies.checks import DENSE_LIMIT
from muxwrap.strategies.features.identity import Identity

StrategyChoice = str | type[Strategy] | partial[Strategy] | Strategy | None
DemuxChoice = str | type[Demuxer] | partial[Demuxer] | Demuxer | None

SMALLEST_CELL = 49  # pixels; below that a cell of its own holds too little of an image
SMALLEST_SLOT = 4  # features, likewise of an instance


def image_pixels(choice: StrategyChoice, n: int) -> int:
    """Return how many pixels a raw image has to have so that it is where to mix; 0 where it is not.

    It is for strategies that give each image a place of its own, which is also what is chosen for raw images. On top of
    each other images are mixed better after the stem.
    """
    if choice is None:
        return n * SMALLEST_CELL if n > 1 else 0
    cls = type(choice) if isinstance(choice, Strategy) else strategies.registry.class_of(choice)
    return n if cls.sees == "image" and cls.disjoint else 0


def default_strategy(n: int, site: Site) -> str:
    """Return the name of the strategy for n instances at a site where the user chose none.

    One instance is left as it is. What keeps instances apart is learned fastest: raw images get cells of their own, features
    slots, as long as there are enough for a slot each, and not so many that a matrix over them is out of the question;
    else codes.
    """
    if n == 1:
        return "identity"
    if (site.path, site.side) == ("", "input") and site.pixels >= image_pixels(None, n):
        return "layout"
    return "slots" if n * SMALLEST_SLOT <= site.dim <= DENSE_LIMIT else "hadamard"


def default_demuxer(strategy: Strategy) -> str:
    """Return the name of the demuxer where the user chose none: layers of its own for every index.

    What is not bound needs none, so that ``n=1`` is the bare model.
    """
    return "unbind" if strategy.n == 1 and isinstance(strategy, Identity) else "mlp"


def prefix_length(choice: DemuxChoice, n: int) -> int:
    """Return how many tokens the chosen demuxer will put before every mixture; the sites have to stand that."""
    if isinstance(choice, Demuxer):
        return choice.prefix_length
    return 0 if choice is None else demuxers.registry.class_of(choice).prefix_for(n)


def build_strategy(choice: StrategyChoice, n: int, sites: Sites, seed: int) -> Strategy:
    """Make the strategy for the mux sites.

    Raises:
        MuxwrapError: the choice is none, or does not fit.
    """
    choice = choice or default_strategy(n, sites.mux[0])
    cls = type(choice) if isinstance(choice, Strategy) else strategies.registry.class_of(choice)
    facts = [_facts(cls, site, sites.masked) for site in sites.mux]
    if any(other != facts[0] for other in facts):
        found = sorted(fact["dim"] for fact in facts)
        raise MuxwrapError(f"the mux sites have feature sizes {found}; one strategy needs one size: name other sites")
    made = strategies.registry.build(choice, n=n, seed=seed, **facts[0])
    _check_fit(made, "strategy", n, facts[0]["dim"], sites.mux[0])
    return made


def _facts(cls: type[Strategy], site: Site, masked: bool) -> dict[str, Any]:
    """Return what a strategy is told about a site.

    Raises:
        MuxwrapError: a row there is not what the strategy needs to see.
    """
    if cls.sees == "features":
        return {"dim": site.dim}
    holds = f"the {site} holds " + ("rows of unknown shape" if site.shape is None else f"rows {list(site.shape)}")
    fitting = f"strategies that fit there: {', '.join(map(repr, list_strategies('features')))}"
    if cls.sees == "image":
        if site.image is None:
            raise MuxwrapError(
                f"{cls.__name__} mixes images [C, H, W], and {holds}; mix raw images or a feature map; {fitting}"
            )
        channels, *size = site.image
        return {"dim": channels, "size": tuple(size)}
    unread = masked and not cls.reads_mask
    if unread or site.axis not in (-1, 1) or len(site.shape or ()) == 1:
        why, without = ("with a mask", " without a mask") if unread else ("which are no tokens", "")
        raise MuxwrapError(f"{cls.__name__} mixes tokens [L, d]{without}, and {holds}, {why}; {fitting}")
    return {"dim": site.dim}


def build_demuxers(choice: DemuxChoice, n: int, sites: Sites, phi: Strategy, seed: int) -> list[Demuxer]:
    """Make a demuxer for every demux site.

    Raises:
        MuxwrapError: the choice is none, or does not fit.
    """
    if isinstance(choice, nn.Module) and len(sites.demux) > 1:
        raise MuxwrapError(
            f"demux={choice!r} is one instance for {len(sites.demux)} demux sites; give a name or a class"
        )
    made = []
    for site in sites.demux:
        facts = {"n": n, "dim": site.dim, "seed": seed, "strategy": phi, "mux_dim": phi.dim}
        made.append(demuxers.registry.build(choice or default_demuxer(phi), **facts))
        _check_fit(made[-1], "demux", n, site.dim, site)
    return made


def _check_fit(made: Strategy | Demuxer, argument: str, n: int, dim: int, site: Site) -> None:
    if (made.n, made.dim) != (n, dim):
        raise MuxwrapError(
            f"{argument}={type(made).__name__}(n={made.n}, dim={made.dim}) does not fit n={n} and the {site}; "
            f"make it with n={n}, dim={dim}, or give its name and options instead of an instance"
        )
