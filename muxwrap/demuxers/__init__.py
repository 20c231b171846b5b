"""How one trunk output becomes n outputs. One demuxer per file."""

from muxwrap.demuxers.base import Demuxer as Demuxer
from muxwrap.demuxers.base import registry as registry
from muxwrap.demuxers.index import Index as Index
from muxwrap.demuxers.index_norm import IndexNorm as IndexNorm
from muxwrap.demuxers.key import Key as Key
from muxwrap.demuxers.mlp import MLP as MLP
from muxwrap.demuxers.unbind import Unbind as Unbind
from muxwrap.demuxers.uncouple import Uncouple as Uncouple
