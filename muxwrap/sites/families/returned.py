"""A backbone that returns several maps, such as the features of its stages: each of them is separated by itself."""

from __future__ import annotations

from muxwrap._hooks.axes import feature_size
from muxwrap._util.held import held_tensors
from muxwrap._util.nested import tensors_in
from muxwrap.site import Site
from muxwrap.sites.tracing.resolve import feature_axis
from muxwrap.sites.tracing.trace import Seen, Trace


def returned_maps(trace: Trace) -> tuple[Site, ...]:
    """Return one site per map, or nothing where the backbone returns one alone, or anything else besides maps.

    What was made of maps, such as classes, is better separated before it is made.
    """
    maps = {id(answer): (part, answer) for part, answer in reversed(list(enumerate(trace.answers)))}
    held = sum(1 for _ in held_tensors(trace.output))
    if len(maps) < 2 or held or not all(answer.floating and answer.ndim > 2 for _, answer in maps.values()):
        return ()
    return tuple(_site(trace, part, answer) for part, answer in sorted(maps.values(), key=lambda each: each[0]))


def returned(trace: Trace, parts: list[int]) -> tuple[Site, ...]:
    """Return the sites of some of the tensors that a backbone returns; nothing where one has no features or is held."""
    found = [(part, trace.answers[part]) for part in parts]
    separable = sum(1 for _ in tensors_in(trace.output))
    if not all(answer.floating and answer.ndim > 1 and part < separable for part, answer in found):
        return ()
    return tuple(_site(trace, part, answer) for part, answer in found)


def _site(trace: Trace, part: int, answer: Seen) -> Site:
    maker = next((visit for visit in trace.visits if visit.output is answer and visit.path), None)
    permuted = 1 if answer.ndim > 3 else -1  # on the way out
    axis = permuted if maker is None else feature_axis(trace, maker, "output", answer)
    size = feature_size(answer.shape, axis)
    return Site("", "output", axis, size, shape=answer.shape[1:], part=part)
