"""Data multiplexing for any PyTorch model: n inputs share one pass of the network.

Every name and every subpackage is imported when it is first used, so that ``import muxwrap`` costs nothing: a command line can
complete words and print its help without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ imports them
    from muxwrap import demuxers as demuxers
    from muxwrap import evaluation as evaluation
    from muxwrap import frontiers as frontiers
    from muxwrap import inference as inference
    from muxwrap import published as published
    from muxwrap import samplers as samplers
    from muxwrap import serving as serving
    from muxwrap import strategies as strategies
    from muxwrap import theory as theory
    from muxwrap import throughput as throughput
    from muxwrap import training as training
    from muxwrap.demuxers.base import Demuxer as Demuxer
    from muxwrap.demuxers.base import list_demuxers as list_demuxers
    from muxwrap.demuxers.base import register_demuxer as register_demuxer
    from muxwrap.errors import MuxwrapError as MuxwrapError
    from muxwrap.evaluation import evaluate as evaluate
    from muxwrap.frontiers import frontier as frontier
    from muxwrap.loading import from_pretrained as from_pretrained
    from muxwrap.loading import load as load
    from muxwrap.multiplex import Multiplex as Multiplex
    from muxwrap.site import Site as Site
    from muxwrap.site import Sites as Sites
    from muxwrap.sites import find_sites as find_sites
    from muxwrap.strategies.base import Strategy as Strategy
    from muxwrap.strategies.base import list_strategies as list_strategies
    from muxwrap.strategies.base import register_strategy as register_strategy
    from muxwrap.wrapping import unwrap as unwrap
    from muxwrap.wrapping import wrap as wrap

__version__ = "0.2.0"

__all__ = [
    "Demuxer",
    "Multiplex",
    "MuxwrapError",
    "Site",
    "Sites",
    "Strategy",
    "evaluate",
    "find_sites",
    "from_pretrained",
    "frontier",
    "list_demuxers",
    "list_strategies",
    "load",
    "register_demuxer",
    "register_strategy",
    "unwrap",
    "wrap",
]

_FOUND_IN = {
    "Demuxer": "demuxers.base",
    "Multiplex": "multiplex",
    "MuxwrapError": "errors",
    "Site": "site",
    "Sites": "site",
    "Strategy": "strategies.base",
    "evaluate": "evaluation",
    "find_sites": "sites",
    "from_pretrained": "loading",
    "frontier": "frontiers",
    "list_demuxers": "demuxers.base",
    "list_strategies": "strategies.base",
    "load": "loading",
    "register_demuxer": "demuxers.base",
    "register_strategy": "strategies.base",
    "unwrap": "wrapping",
    "wrap": "wrapping",
}
"""The module of every public name."""

_SUBPACKAGES = (
    "demuxers",
    "evaluation",
    "frontiers",
    "inference",
    "published",
    "samplers",
    "serving",
    "strategies",
    "theory",
    "throughput",
    "training",
)


def __getattr__(name: str) -> Any:
    """Import a public name or a subpackage at its first use (PEP 562)."""
    if name in _SUBPACKAGES:
        return import_module(f"muxwrap.{name}")
    if name not in _FOUND_IN:
        raise AttributeError(f"module 'muxwrap' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"muxwrap.{_FOUND_IN[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
