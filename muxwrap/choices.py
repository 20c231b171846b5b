"""From what the user chose, or did not, to the strategy and the demuxers of a model."""

from __future__ import annotations

from functools import partial

from torch import nn

from muxwrap.demuxers.base import Demuxer, demuxers
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site, Sites
from muxwrap.strategies.base import Strategy, strategies
from muxwrap.strategies.identity import Identity
from muxwrap.strategies.limits import DENSE_LIMIT

StrategyChoice = str | type[Strategy] | partial[Strategy] | Strategy | None
DemuxChoice = str | type[Demuxer] | partial[Demuxer] | Demuxer | None

SMALLEST_SLOT = 4  # features; below that a slot of its own holds too little of an instance


def default_strategy(n: int, dim: int) -> str:
    """Return the name of the strategy for n instances on ``dim`` features where the user chose none.

    One instance is left as it is. Slots keep instances apart, as long as there are features enough for a slot each, and
    not so many (whole images) that a matrix over them is out of the question; else codes.
    """
    if n == 1:
        return "identity"
    return "slots" if n * SMALLEST_SLOT <= dim <= DENSE_LIMIT else "hadamard"


def default_demuxer(strategy: Strategy) -> str:
    """Return the name of the demuxer where the user chose none: layers of its own for every index.

    What is not bound needs none, so that ``n=1`` is the bare model.
    """
    return "unbind" if strategy.n == 1 and isinstance(strategy, Identity) else "mlp"


def prefix_length(choice: DemuxChoice, n: int) -> int:
    """Return how many tokens the chosen demuxer will put before every mixture; the sites have to stand that."""
    if isinstance(choice, Demuxer):
        return choice.prefix_length
    return 0 if choice is None else demuxers.class_of(choice).prefix_for(n)


def build_strategy(choice: StrategyChoice, n: int, sites: Sites, seed: int) -> Strategy:
    """Make the strategy for the mux sites.

    Raises:
        MuxwrapError: the choice is none, or does not fit.
    """
    dims = {site.dim for site in sites.mux}
    if len(dims) > 1:
        raise MuxwrapError(
            f"the mux sites have feature sizes {sorted(dims)}; one strategy needs one size: name other sites"
        )
    dim = dims.pop()
    made = strategies.build(choice or default_strategy(n, dim), n=n, dim=dim, seed=seed)
    _check_fit(made, "strategy", n, dim, sites.mux[0])
    return made


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
        made.append(demuxers.build(choice or default_demuxer(phi), **facts))
        _check_fit(made[-1], "demux", n, site.dim, site)
    return made


def _check_fit(made: Strategy | Demuxer, argument: str, n: int, dim: int, site: Site) -> None:
    if (made.n, made.dim) != (n, dim):
        raise MuxwrapError(
            f"{argument}={type(made).__name__}(n={made.n}, dim={made.dim}) does not fit n={n} and the {site}; "
            f"make it with n={n}, dim={dim}, or give its name and options instead of an instance"
        )
