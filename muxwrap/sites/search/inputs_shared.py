"""Inputs that are mixed as they come: whether the rows of a mixture share few numbers, of which layers make more."""

from __future__ import annotations

from collections.abc import Iterator

from muxwrap.site import Site, Sites
from muxwrap.sites.tracing.resolve import mixed_at, width
from muxwrap.sites.tracing.trace import Trace, has_weights


def inputs_shared(trace: Trace, sites: Sites) -> Iterator[str]:
    """Yield what a user is told where the numbers of the input itself are mixed, one vector per row.

    Images and sequences say the same many times. Where the layer that reads the vector gives no more numbers than it has, as
    little would be left after it.
    """
    given = {seen.memory for seen in trace.given}
    for site in sites.mux:
        seen = mixed_at(trace, site)
        if seen is not None and seen.floating and seen.ndim == 2 and seen.memory in given and _widened(trace, site):
            yield (
                f"the inputs themselves are mixed, at the {site}: the rows of a mixture share the {site.dim} numbers that each "
                f"is given in, and less of each row is left. Let a layer make more features of a row before (nn.Linear"
                f"({site.dim}, {4 * site.dim}), as a module that is called once), or wrap the parts that do the work alone, "
                "and put the wrapped ones in their places"
            )


def _widened(trace: Trace, site: Site) -> bool:
    """Whether the first layer behind a site makes more numbers of a row than it is given in."""
    at = trace.at(site.path)
    after = (visit for visit in trace.visits if at is not None and visit.entered >= at.entered)
    first = next((visit for visit in after if visit.leaf and has_weights(visit.module)), None)
    return first is not None and width(first.module, "input") == site.dim < (width(first.module, "output") or 0)
