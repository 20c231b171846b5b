"""Finding where a backbone can be multiplexed."""

from muxwrap.sites.find import Choice, find_sites, search, verify
from muxwrap.sites.resolve import check_paths

__all__ = ["Choice", "check_paths", "find_sites", "search", "verify"]
