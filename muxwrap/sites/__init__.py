"""Finding where a backbone can be multiplexed."""

from muxwrap.sites.candidates import Choice
from muxwrap.sites.resolve import check_paths
from muxwrap.sites.search import find_sites, locate, verify

__all__ = ["Choice", "check_paths", "find_sites", "locate", "verify"]
