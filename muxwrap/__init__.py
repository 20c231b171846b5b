"""Data multiplexing for any PyTorch model: n inputs share one pass of the network.

``muxwrap.training``, ``muxwrap.throughput`` and the other subpackages are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from muxwrap.demuxers.base import Demuxer, list_demuxers, register_demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site, Sites
from muxwrap.sites import find_sites
from muxwrap.strategies.base import Strategy, list_strategies, register_strategy
from muxwrap.wrapping import load, unwrap, wrap

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ imports them
    from muxwrap import demuxers as demuxers
    from muxwrap import evaluation as evaluation
    from muxwrap import frontiers as frontiers
    from muxwrap import published as published
    from muxwrap import samplers as samplers
    from muxwrap import strategies as strategies
    from muxwrap import theory as theory
    from muxwrap import throughput as throughput
    from muxwrap import training as training
    from muxwrap.evaluation import evaluate as evaluate
    from muxwrap.frontiers import frontier as frontier

__version__ = "0.1.0"

__all__ = [
    "Demuxer",
    "Multiplex",
    "MuxwrapError",
    "Site",
    "Sites",
    "Strategy",
    "evaluate",
    "find_sites",
    "frontier",
    "list_demuxers",
    "list_strategies",
    "load",
    "register_demuxer",
    "register_strategy",
    "unwrap",
    "wrap",
]

_SUBPACKAGES = (
    "demuxers",
    "evaluation",
    "frontiers",
    "published",
    "samplers",
    "strategies",
    "theory",
    "throughput",
    "training",
)

_FUNCTIONS = {"evaluate": "evaluation", "frontier": "frontiers"}


def __getattr__(name: str) -> Any:
    """Import a subpackage, or what measures a model, at its first use (PEP 562)."""
    if name in _FUNCTIONS:
        return getattr(import_module(f"muxwrap.{_FUNCTIONS[name]}"), name)
    if name not in _SUBPACKAGES:
        raise AttributeError(f"module 'muxwrap' has no attribute {name!r}")
    return import_module(f"muxwrap.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
