"""Data multiplexing for any PyTorch model: n inputs share one pass of the network."""

from muxwrap.demuxers.base import Demuxer, list_demuxers, register_demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.scores import evaluate
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site, Sites
from muxwrap.sites import find_sites
from muxwrap.strategies.base import Strategy, list_strategies, register_strategy
from muxwrap.wrapping import load, unwrap, wrap

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
    "list_demuxers",
    "list_strategies",
    "load",
    "register_demuxer",
    "register_strategy",
    "unwrap",
    "wrap",
]
