"""Data multiplexing for any PyTorch model: n inputs share one pass of the network."""

from muxwrap.demuxers import Demuxer
from muxwrap.demuxers import demuxers as _demuxers
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site, Sites
from muxwrap.multiplex import Multiplex, load, unwrap, wrap
from muxwrap.sites import find_sites
from muxwrap.strategies import Strategy
from muxwrap.strategies import strategies as _strategies

__version__ = "0.1.0"

list_strategies = _strategies.names
list_demuxers = _demuxers.names
register_strategy = _strategies.register
register_demuxer = _demuxers.register

__all__ = [
    "Demuxer",
    "Multiplex",
    "MuxwrapError",
    "Site",
    "Sites",
    "Strategy",
    "find_sites",
    "list_demuxers",
    "list_strategies",
    "load",
    "register_demuxer",
    "register_strategy",
    "unwrap",
    "wrap",
]
