"""Inputs that are mixed as they come: whether the rows of a mixture share few numbers, of which layers make more."""

from __future__ import annotations

import math
from collections.abc import Iterator

from muxwrap.site import Site, Sites
from muxwrap.sites.search.in_parts import in_parts
from muxwrap.sites.tracing.resolve import mixed_at, width
from muxwrap.sites.tracing.trace import Seen, Trace, Visit, has_matrix


def inputs_shared(trace: Trace, sites: Sites) -> Iterator[str]:
    """Yield what a user is told where the numbers of the input itself are mixed, one vector or several images per row.

    One image and sequences say the same many times. Where the layer that reads the vector gives no more numbers than it has,
    as little would be left after it.
    """
    given = {seen.memory for seen in trace.given}
    films = [site for site in sites.mux if not site.path and site.axis is None and site.image is None]
    parts = in_parts(trace) if films else ""
    if parts:
        yield f"the inputs themselves are mixed, at the {films[0]}, one on top of the other as they are; {parts}"
        return
    for site in sites.mux:
        seen, reader = mixed_at(trace, site), _reader(trace, site)
        if seen is None or reader is None or not (seen.floating and seen.ndim == 2 and seen.memory in given):
            continue
        if _numbers(reader.input) == site.dim < _numbers(reader.output):
            yield (
                f"the inputs themselves are mixed, at the {site}: the rows of a mixture share the {site.dim} numbers that each "
                f"is given in, and less of each row is left. Let a layer make more features of a row before (nn.Linear"
                f"({_features(reader, site.dim)}, {4 * site.dim}), as a module that is called once), or wrap the parts that do "
                "the work alone, and put the wrapped ones in their places"
            )


def _reader(trace: Trace, site: Site) -> Visit | None:
    """Return the first layer behind a site, norms apart."""
    at = trace.at(site.path)
    after = (visit for visit in trace.visits if at is not None and visit.entered >= at.entered and visit.leaf)
    return next((visit for visit in after if has_matrix(visit.module)), None)


def _numbers(seen: Seen | None) -> int:
    return 0 if seen is None else math.prod(seen.shape[1:])


def _features(reader: Visit, numbers: int) -> int:
    """Return of how many features a layer reads the numbers of a row, one where it takes them for a sequence."""
    return width(reader.module, "input") or int(getattr(reader.module, "input_size", numbers))
