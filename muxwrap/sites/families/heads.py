"""The heads of a backbone, before which mixtures are separated: those that run, their peers, and those of training."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from muxwrap._hooks.adapters import outermost
from muxwrap.site import Site
from muxwrap.sites.runs.dry_run import answers_of
from muxwrap.sites.tracing.resolve import site_at, width
from muxwrap.sites.tracing.trace import Trace, Visit

_HEADS = (nn.Linear, nn.Conv2d)


def with_peers(backbone: nn.Module, trace: Trace, head: Visit) -> Iterator[tuple[Site, ...]]:
    """Yield the sites before a head and its peers, and before the head alone: a peer may be just a layer before it."""
    site = site_at(trace, head.path, "input")
    if site is None:
        return
    auxiliary = auxiliary_heads(backbone, trace, [head])
    kind, parent = _kind(head.module), head.path.rpartition(".")[0]
    siblings = [visit for visit in trace.once if visit.path and visit.path.rpartition(".")[0] == parent]
    alike = [visit for visit in siblings if visit is head or (kind is not None and _kind(visit.module) == kind)]
    sites = [site_at(trace, visit.path, "input") for visit in alike]
    if len(sites) > 1 and all(sites):
        yield (*(site for site in sites if site is not None), *auxiliary)
    yield (site, *auxiliary)


def auxiliary_heads(backbone: nn.Module, trace: Trace, heads: list[Visit]) -> tuple[Site, ...]:
    """Return the sites before heads that run in training only: of the kind and width of a head, and not reached here.

    No run finds them, since a run in training mode would leave its marks on the statistics of batch norms.
    """
    kinds = {_kind(head.module) for head in heads}
    reached = {visit.path for visit in trace.visits}
    unseen = [(path, module) for path, module in outermost(backbone) if path not in reached]
    found = [(path, module) for path, module in unseen if isinstance(module, _HEADS) and _kind(module) in kinds]
    sizes = [(path, -1 if isinstance(module, nn.Linear) else 1, width(module, "input")) for path, module in found]
    return tuple(Site(path, "input", axis, dim) for path, axis, dim in sizes if dim is not None)


def before_makers(trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Yield the sites before the layers that make the answers, where a backbone gives several (tasks, say).

    ``squeeze`` makes another tensor of the same numbers. What a Transformers model returns of its trunk is no answer: a
    decoder goes on from its encoder's states, mixed as they are.
    """
    own = [trace.answers[place] for place, _ in answers_of(trace.output)]
    answers = [answer for answer in own if answer.ndim and answer.floating]
    made = [v for v in trace.once if v.path and v.output is not None and v.output.ndim > 1]
    makers = [[v for v in made if v.output.memory == answer.memory] for answer in answers]  # type: ignore[union-attr]
    if len(makers) > 1 and all(makers):
        paths = dict.fromkeys(min(found, key=lambda visit: visit.left).path for found in makers)
        sites = [site_at(trace, path, "input") for path in paths]
        if all(sites):
            yield tuple(site for site in sites if site is not None)


def _kind(module: nn.Module) -> tuple[type[nn.Module], int | None] | None:
    """Return what heads of one model have in common: their class and the width of their last layer."""
    layers = [layer for layer in module.modules() if isinstance(layer, _HEADS)]
    return (type(module), width(layers[-1], "output")) if layers else None
