"""Finding where a backbone can be multiplexed."""

from muxwrap.sites.layers import locate_layers
from muxwrap.sites.resolve import check_paths
from muxwrap.sites.search import Choice, find_sites, locate, verify
from muxwrap.sites.side_by_side import check_side_by_side

__all__ = ["Choice", "check_paths", "check_side_by_side", "find_sites", "locate", "locate_layers", "verify"]
