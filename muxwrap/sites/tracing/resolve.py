"""From a module's name to a site: the side, the feature axis and its size, read from a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from muxwrap._hooks.axes import feature_size
from muxwrap._hooks.embeddings import token_embedding
from muxwrap.errors import MuxwrapError, known_names
from muxwrap.site import Side, Site, Sites
from muxwrap.sites.tracing.trace import Seen, Trace, Visit

_SIDES: tuple[Side, Side] = ("input", "output")


def site_at(trace: Trace, path: str, side: Side) -> Site | None:
    """Return the site at one side of a module that ran on a tensor with rows, once or once per input, or None."""
    visit = trace.at(path)
    if visit is None:
        return None
    tensor = visit.input if side == "input" else visit.output
    if tensor is None or (tensor.ndim < 2 and (tensor.floating or side == "output")):
        return None  # one number or class per row is an answer, not features; one id is embedded
    times = trace.calls.get(path, 1)
    if side == "input" and not tensor.floating:
        return _embedded_site(visit, times)
    axis = feature_axis(trace, visit, side, tensor)
    return Site(path, side, axis, feature_size(tensor.shape, axis), shape=tensor.shape[1:], times=times)


def inputs_of(trace: Trace, visit: Visit) -> tuple[Site, ...]:
    """Return the sites of all floats with rows that a module is given, where these are several of as many features."""
    rows = trace.visits[0].input.shape[:1] if trace.visits[0].input is not None else ()
    found = [
        (part, seen)
        for part, seen in enumerate(visit.given.values())
        if seen.floating and seen.ndim > 1 and seen.shape[:1] == rows
    ]
    axes = [(part, seen, feature_axis(trace, visit, "input", seen)) for part, seen in found]
    sites = [
        Site(visit.path, "input", axis, feature_size(seen.shape, axis), shape=seen.shape[1:], part=part)
        for part, seen, axis in axes
    ]
    return tuple(sites) if len({site.dim for site in sites}) == 1 < len(sites) else ()


def mixed_at(trace: Trace, site: Site) -> Seen | None:
    """Return what passes at a mux site."""
    visit = trace.at(site.path)
    if visit is None or site.side == "output":
        return None if visit is None else visit.output
    return visit.input if site.part is None else list(visit.given.values())[site.part]


def is_answer(trace: Trace, site: Site) -> bool:
    """Whether what passes at a site is an answer of the backbone itself, which mixing would destroy."""
    visit = trace.at(site.path)
    tensor = None if visit is None else visit.input if site.side == "input" else visit.output
    return any(tensor is answer for answer in trace.answers)


def _embedded_site(visit: Visit, times: int) -> Site | None:
    """Return the site where a model that takes ids is given the mixture of their embeddings instead."""
    weight = getattr(token_embedding(visit.module), "weight", None)
    return None if weight is None else Site(visit.path, "input", -1, weight.shape[-1], times=times)


def site_from(trace: Trace, backbone: nn.Module, choice: object, side: Side, argument: str) -> Site:
    """Return the site that a user named.

    Args:
        trace: a run of the backbone.
        backbone: the model.
        choice: a module path, optionally ending in ``@input`` or ``@output``; ``"@input"`` alone is the backbone's own
            input; a module of the backbone; or a :class:`~muxwrap.Site`, which is taken as it is.
        side: the side if the choice names none.
        argument: ``"mux_at"`` or ``"demux_at"``, for messages.

    Raises:
        MuxwrapError: no such module, or it did not run exactly once on a tensor with rows.
    """
    if isinstance(choice, Site):
        backbone_path(backbone, choice.path, argument)
        seen = site_at(trace, choice.path, choice.side)
        return replace(choice, shape=seen.shape) if seen and choice.shape is None else choice
    path, side = _parse(backbone, choice, side, argument)
    runs = sum(visit.path == path for visit in trace.visits)
    if runs == 0:
        raise MuxwrapError(f"{argument}={path!r} is never reached by the example; name a module that every call runs")
    if runs > 1 and trace.at(path) is None:
        raise MuxwrapError(f"{argument}={path!r} is reached {runs} times in one call; name a module that runs once")
    site = site_at(trace, path, side)
    if site is None and side == "input" and argument == "mux_at":
        raise MuxwrapError(
            f"{argument}={choice!r} reads token ids or nothing with rows; token ids cannot be mixed: mix their embeddings, "
            "for example mux_at='embeddings'"
        )
    if site is None:
        raise MuxwrapError(
            f"{argument}={path!r} has no tensor with rows as its {side}; try {path!r} with the other side"
        )
    return site


def without_prefix(choice: Any, prefix: str) -> Any:
    """Return what a user named with the names of the model inside: they may stand with the shell's prefix or without."""
    if isinstance(choice, Site):
        return replace(choice, path=choice.path.removeprefix(prefix))
    if isinstance(choice, (list, tuple)):
        return [without_prefix(one, prefix) for one in choice]
    return choice.removeprefix(prefix) if isinstance(choice, str) else choice


def check_paths(backbone: nn.Module, sites: Sites) -> None:
    """Refuse sites of another backbone.

    Raises:
        MuxwrapError: a path is not a module of this one.
    """
    for argument, named in (("mux_at", sites.mux), ("demux_at", sites.demux)):
        for site in named:
            backbone_path(backbone, site.path, argument)


def backbone_path(backbone: nn.Module, path: str, argument: str) -> str:
    """Return the path if the backbone has a module there.

    Raises:
        MuxwrapError: it has none; the message names the near miss.
    """
    names = [name for name, _ in backbone.named_modules()]
    if path not in names:
        shown = [name for name in names if name and name.count(".") <= path.count(".")]
        raise MuxwrapError(
            f"{argument}={path!r} is not a module of {type(backbone).__name__}; {known_names(path, shown)}"
        )
    return path


def _parse(backbone: nn.Module, choice: object, side: Side, argument: str) -> tuple[str, Side]:
    if isinstance(choice, nn.Module):
        for path, module in backbone.named_modules():
            if module is choice:
                return path, side
        raise MuxwrapError(
            f"{argument}={type(choice).__name__}(...) is not a module of this {type(backbone).__name__}; give one of its own, "
            "or its path"
        )
    if not isinstance(choice, str):
        raise MuxwrapError(
            f"{argument}={choice!r} is of type {type(choice).__name__}; give a module path, a module or a Site"
        )
    path, at, named = choice.partition("@")
    if at and named not in _SIDES:
        raise MuxwrapError(f"{argument}={choice!r}: {known_names(named, _SIDES)} may stand behind the @")
    backbone_path(backbone, path, argument)
    return path, named if named in _SIDES else side


def feature_axis(trace: Trace, visit: Visit, side: Side, tensor: Seen) -> int | None:
    """Find the axis that the neighbouring layers take for features."""
    if (visit.path == "" or visit is trace.encoder) and side == "input":
        if tensor.ndim > 3:  # of raw images and films the whole one
            return -1 if _has_channels_last(trace, visit, tensor) else None
        return 1 if _is_signal(trace, visit, tensor) else -1
    neighbours = _neighbours(trace, visit, side)
    beside_convolution = _axis_beside_convolution(neighbours, tensor)
    if beside_convolution is not None:
        return beside_convolution
    axes, nearest = set(range(1, tensor.ndim)), None
    for layer, its_side in ((each.module, its) for each, its in neighbours):
        fitting = {axis for axis in axes if tensor.shape[axis] == width(layer, its_side)}
        axes, nearest = fitting or axes, nearest or (layer if fitting else None)
    channels_first = isinstance(nearest, _CHANNELS_FIRST if tensor.ndim > 3 else _SEQUENCE_CHANNELS_FIRST)
    if tensor.ndim > 3 and nearest is None:
        channels_first = True
    last = tensor.ndim - 1
    axis = min(axes) if channels_first or last not in axes else last
    return -1 if axis == last else axis


def _axis_beside_convolution(neighbours: list[tuple[Visit, Side]], tensor: Seen) -> int | None:
    """Return the axis that is left for features where the others are those of the image that a convolution makes or reads.

    Its channels may be others than the tensor's, where several maps were joined.
    """
    if not neighbours:
        return None
    beside, its_side = neighbours[0]
    seen = beside.input if its_side == "input" else beside.output
    convolution = _CHANNELS_FIRST if tensor.ndim > 3 else _SEQUENCE_CHANNELS_FIRST
    if seen is None or not 3 <= tensor.ndim == seen.ndim or not isinstance(beside.module, convolution):
        return None
    first, last = tensor.shape[2:] == seen.shape[2:], tensor.shape[1:-1] == seen.shape[2:]
    if first and last:
        return 1 if tensor.shape[-1] != width(beside.module, its_side) else None
    return 1 if first else -1 if last else None


def _has_channels_last(trace: Trace, visit: Visit, tensor: Seen) -> bool:
    """Whether raw images are turned before the convolution that reads them."""
    first = next((leaf for leaf in trace.leaves() if leaf.entered > visit.entered), None)
    if tensor.ndim != 4 or first is None or not isinstance(first.module, nn.Conv2d):
        return False
    return tensor.shape[1] != width(first.module, "input") == tensor.shape[-1]


def _is_signal(trace: Trace, visit: Visit, tensor: Seen) -> bool:
    """Whether a raw sequence has its channels first: a convolution reads it, or points of three coordinates."""
    first = next(
        (leaf for leaf in trace.leaves() if leaf.entered > visit.entered and width(leaf.module, "input")), None
    )
    if tensor.ndim < 3 or first is None or not isinstance(first.module, _SEQUENCE_CHANNELS_FIRST):
        return False
    return width(first.module, "input") == tensor.shape[1] and first.input is tensor


def _neighbours(trace: Trace, visit: Visit, side: Side) -> list[tuple[Visit, Side]]:
    """Return the layers next to one side of a visit, the nearest first, each with the side of it that is next to it.

    What enters a module is read by the first layer inside or after it, and was made by the last one before; what leaves it
    was made by the last layer inside or before it, and is read by the first one after.
    """
    layers = [v for v in trace.visits if v.leaf and v.left >= 0]
    at = visit.entered if side == "input" else visit.left
    after = next((v for v in layers if v.entered >= at and width(v.module, "input")), None)
    before = next((v for v in reversed(layers) if v.left <= at and width(v.module, "output")), None)
    both: list[tuple[Visit | None, Side]] = [(after, "input"), (before, "output")]
    return [(layer, its) for layer, its in (both if side == "input" else both[::-1]) if layer is not None]


_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
)
_SEQUENCE_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.GroupNorm, nn.InstanceNorm1d)
_WIDTHS = {
    "input": ("in_features", "in_channels", "num_features", "num_channels", "embedding_dim"),
    "output": ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim"),
}


def width(module: nn.Module, side: Side) -> int | None:
    """Return how many features a layer takes (its input side) or gives, or None where it does not say."""
    shape = getattr(module, "normalized_shape", None)
    if shape:
        return int(shape if isinstance(shape, int) else shape[-1])
    return next((getattr(module, name) for name in _WIDTHS[side] if isinstance(getattr(module, name, None), int)), None)
