"""The strategy and the demuxers that fit the sites."""

from __future__ import annotations

from typing import Any

from torch import nn

from muxwrap import demuxers, strategies
from muxwrap.defaults import DemuxChoice, default_demuxer
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.strategies.base import Strategy, list_strategies


def build_strategy(choice: Any, n: int, sites: Sites, seed: int) -> Strategy:
    """Make the strategy for the mux sites.

    Raises:
        MuxwrapError: the choice is not a strategy, or does not fit.
    """
    cls = type(choice) if isinstance(choice, Strategy) else strategies.registry.class_of(choice)
    sizes = [_sizes(cls, site, sites.padded) for site in sites.mux]
    if any(other != sizes[0] for other in sizes):
        found = sorted(size["dim"] for size in sizes)
        raise MuxwrapError(f"the mux sites have feature sizes {found}; one strategy needs one size: name other sites")
    made = strategies.registry.build(choice, n=n, seed=seed, **sizes[0])
    _check_fit(made, "strategy", n, sizes[0]["dim"], sites.mux[0])
    return made


def build_demuxers(choice: DemuxChoice, n: int, sites: Sites, phi: Strategy, seed: int) -> list[Demuxer]:
    """Make a demuxer for every demux site.

    Raises:
        MuxwrapError: the choice is not a demuxer, or does not fit.
    """
    if isinstance(choice, nn.Module) and len(sites.demux) > 1:
        raise MuxwrapError(
            f"demux={choice!r} is one instance for {len(sites.demux)} demux sites; give a name or a class"
        )
    made = []
    for site in sites.demux:
        arguments = {"n": n, "dim": site.dim, "seed": seed, "strategy": phi, "mux_dim": phi.dim}
        made.append(demuxers.registry.build(choice or default_demuxer(phi), **arguments))
        _check_fit(made[-1], "demux", n, site.dim, site)
    return made


def _sizes(cls: type[Strategy], site: Site, masked: bool) -> dict[str, Any]:
    """Return the sizes that a strategy's constructor may name.

    Raises:
        MuxwrapError: a row at the site is not what the strategy mixes.
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
    if cls.places_tokens:
        if site.grid is None or site.shape is None:
            return {"dim": site.dim}
        return {"dim": site.dim, "grid": site.grid, "keep": site.shape[0] - site.grid[0] * site.grid[1]}
    unread = masked and not cls.reads_mask
    if unread or site.axis not in (-1, 1) or len(site.shape or ()) == 1:
        why, without = ("with a mask", " without a mask") if unread else ("which are not tokens", "")
        raise MuxwrapError(f"{cls.__name__} mixes tokens [L, d]{without}, and {holds}, {why}; {fitting}")
    return {"dim": site.dim}


def _check_fit(made: Strategy | Demuxer, argument: str, n: int, dim: int, site: Site) -> None:
    if (made.n, made.dim) != (n, dim):
        raise MuxwrapError(
            f"{argument}={type(made).__name__}(n={made.n}, dim={made.dim}) does not fit n={n} and the {site}; "
            f"make it with n={n}, dim={dim}, or give its name and options instead of an instance"
        )
