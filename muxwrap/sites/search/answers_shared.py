"""Whether what is separated are the answers themselves, which a layer inside made of more features."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from muxwrap.site import Site, Sites
from muxwrap.sites.tracing.resolve import is_answer
from muxwrap.sites.tracing.trace import Trace, Visit, has_weights


def answers_shared(trace: Trace, sites: Sites) -> Iterator[str]:
    """Yield what a user is told where rows share the numbers of an answer.

    Embeddings and maps of features are separated rightly where the backbone returns them. Answers are told from those by the
    layer that makes them, the last one, or of several answers also that whose output they are: of more features than it gives,
    and no layer reads or scales as many. Several of several inputs are the embeddings that one encoder makes.
    """
    if len(sites.demux) > 1 and _reads_several(trace, sites):
        return
    returned = [
        site for site in sites.demux if site.axis is not None and (not site.path or _is_given_back(trace, site))
    ]
    layers = [visit for visit in trace.visits if visit.path and visit.leaf and has_weights(visit.module)]
    if returned and not layers:
        yield (
            f"what the backbone returns is separated, at the {returned[0]}, and no layer of it is a module that is called: if "
            "these are answers, which fewer numbers hold than the features before, less of each row comes back. Make the last "
            "layer a module (nn.Linear), and instances are separated before it"
        )
    ends = layers[-1:] if len(sites.demux) == 1 else [*layers[-1:], *(v for v in layers if _is_returned(v, trace))]
    for site in (site for site in returned if not _is_normed(trace, site.dim)):
        made = _made_of_more(layers, ends, site.dim)
        if made is not None:
            given, gives = _features(made.module)
            yield (
                f"the answers themselves are separated, at the {site}: the {gives} numbers that {made.path!r} "
                f"({type(made.module).__name__}) makes of {given} features are what the rows of a mixture share, and less of "
                "each row comes back. Name demux_at= before it, if every row of the batch is one row there; where a row of the "
                "batch is several (its images, its channels), wrap the part that takes these alone, and put the wrapped part "
                "in its place"
            )


def _reads_several(trace: Trace, sites: Sites) -> bool:
    """Whether several inputs are mixed; several layers that read one of them make no more of it."""
    visits = [trace.at(site.path) for site in sites.mux]
    read = {visit.input.memory for visit in visits if visit is not None and visit.input is not None}
    return len(sites.mux) > 1 and (len(read) > 1 or any(site.side == "input" for site in sites.mux))


def _made_of_more(layers: list[Visit], ends: list[Visit], dim: int) -> Visit | None:
    """Return the layer among ``ends`` that makes ``dim`` numbers, if all that do have more features and none reads as many."""
    sizes = {id(visit.module): _features(visit.module) for visit in layers if _is_product(visit)}
    if any(given == dim or (gives == dim and given < dim) for given, gives in sizes.values()):
        return None
    return next((visit for visit in ends if sizes.get(id(visit.module), (0, 0))[1] == dim), None)


def _is_normed(trace: Trace, dim: int) -> bool:
    """Whether a norm scales as many numbers: they are features, which something may read."""
    weights = (getattr(visit.module, "weight", None) for visit in trace.visits)
    return any(isinstance(weight, Tensor) and weight.shape == (dim,) for weight in weights)


def _is_given_back(trace: Trace, site: Site) -> bool:
    """Whether what a module gives is an answer as it is."""
    return site.side == "output" and is_answer(trace, site)


def _is_returned(visit: Visit, trace: Trace) -> bool:
    """Whether what a layer gave is an answer, or the first part of it is."""
    return visit.output is not None and any(visit.output.memory == answer.memory for answer in trace.answers)


def _is_product(visit: Visit) -> bool:
    return visit.leaf and isinstance(visit.module, (nn.Linear, nn.modules.conv._ConvNd))


def _features(layer: nn.Module) -> tuple[int, int]:
    """Return how many features a layer takes and how many it gives."""
    names = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("in_channels", "out_channels")
    given, gives = (getattr(layer, name) for name in names)
    return int(given), int(gives)
