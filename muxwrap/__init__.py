"""Data multiplexing for any PyTorch model: n inputs share one pass of the network."""

from muxwrap.demuxers import Demuxer, demuxers
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site, Sites
from muxwrap.multiplex import Multiplex, load, unwrap, wrap
from muxwrap.sites import find_sites
from muxwrap.strategies import Strategy, strategies

__version__ = "0.1.0"

list_strategies = strategies.names
list_demuxers = demuxers.names
register_strategy = strategies.register
register_demuxer = demuxers.register

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
