"""Finding where a backbone can be multiplexed."""

from muxwrap.sites.built.verify import verify
from muxwrap.sites.layers import locate_layers
from muxwrap.sites.locate import find_sites, locate
from muxwrap.sites.search.candidates import Choice
from muxwrap.sites.side_by_side import check_side_by_side
from muxwrap.sites.tracing.resolve import check_paths

__all__ = ["Choice", "check_paths", "check_side_by_side", "find_sites", "locate", "locate_layers", "verify"]
