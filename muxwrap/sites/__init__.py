"""Finding where a backbone can be multiplexed."""

from muxwrap.sites.find import Choice, find_sites, search, verify

__all__ = ["Choice", "find_sites", "search", "verify"]
