"""Which weights of a trunk lie between features of one instance, where a strategy has blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site
from muxwrap.sites.search import example_of
from muxwrap.sites.trace import Trace, trace
from muxwrap.training.head import check_wrapped


class Layer(NamedTuple):
    """Weights with features of the mixture on both sides."""

    name: str  # of the weight, in the backbone
    weight: Tensor  # [out, in, ...]
    bias: Tensor | None  # [out]


def blocks_of(model: Multiplex, call: str) -> list[int]:
    """Return how many features each instance has in a mixture.

    Raises:
        MuxwrapError: the model is not wrapped, or its strategy has no blocks.
    """
    check_wrapped(model, call)
    sizes: list[int] | None = getattr(model.strategy, "slot_sizes", None)
    if sizes is None:
        raise MuxwrapError(
            f"{call}(model): the instances of {type(model.strategy).__name__} lie on top of each other, so that no part of the "
            "trunk is for one of them; wrap with strategy='slots'"
        )
    return sizes


def trunk_layers(model: Multiplex, example_input: Any, call: str) -> list[Layer]:
    """Return the linear and convolutional layers between the sites that have n features or more on both sides.

    Raises:
        MuxwrapError: there are none, or a site is not reached once on this example.
    """
    backbone, mux, demux = model.backbone, model.sites.mux[0], model.sites.demux[0]
    seen = trace(backbone, example_of(backbone, example_input))
    first, last = _moment(seen, mux, call), _moment(seen, demux, call)
    inside = dict.fromkeys(visit.module for visit in seen.visits if first <= visit.entered and visit.left <= last)
    found = [layer for layer in _layers(backbone, inside) if min(layer.weight.shape[:2]) >= model.n]
    if not found:
        raise MuxwrapError(
            f"{call}(model): no linear or convolutional weight of {model.n} features or more between the {mux} and the {demux}"
        )
    return found


def parts(features: int, blocks: list[int]) -> list[list[slice]]:
    """Return which of a layer's features belong to which instance, for every segment of dim features.

    Feature f of a layer with a multiple of dim features belongs to the instance that has coordinate ``f mod dim``; other
    widths are cut into n parts.
    """
    n, dim = len(blocks), sum(blocks)
    if features % dim:
        bounds = [math.ceil(i * features / n) for i in range(n + 1)]
        return [[slice(a, b) for a, b in pairwise(bounds)]]
    ends = list(accumulate(blocks, initial=0))
    starts = range(0, features, dim)
    return [[slice(s + a, s + b) for a, b in pairwise(ends)] for s in starts]


def _moment(seen: Trace, site: Site, call: str) -> int:
    visit = seen.at(site.path)
    if visit is None:
        raise MuxwrapError(f"{call}(example_input=...): the {site} is not reached once on this example")
    return visit.entered if site.side == "input" else visit.left


def _layers(backbone: nn.Module, modules: Iterable[nn.Module]) -> Iterator[Layer]:
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    for weight, bias in (weights for module in modules for weights in _of_module(module)):
        yield Layer(names[id(weight)], weight, bias)


def _of_module(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(module, nn.MultiheadAttention):  # its own projections are no calls of modules
        if module.in_proj_weight is not None:
            yield module.in_proj_weight, module.in_proj_bias
        yield module.out_proj.weight, module.out_proj.bias
    elif isinstance(module, nn.Linear) or (
        isinstance(module, _ConvNd) and module.groups == 1 and not module.transposed
    ):
        yield module.weight, module.bias
