"""The layers of a trunk whose weights lie between features of the mixture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Site
from muxwrap.sites.examples import example_of
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.trace import Trace


class Layer(NamedTuple):
    """Weights with features of the mixture on both sides."""

    name: str  # of the weight, in the backbone
    weight: Tensor  # [out, in, ...]
    bias: Tensor | None  # [out]


def trunk_layers(model: Multiplex, example_input: Any, call: str) -> list[Layer]:
    """Return the linear and convolutional layers between the sites that have n features or more on both sides.

    Raises:
        MuxwrapError: there are none, or a site is not reached exactly once on this example.
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


def _moment(seen: Trace, site: Site, call: str) -> int:
    visit = seen.at(site.path)
    if visit is None:
        raise MuxwrapError(
            f"{call}(example_input=...): the {site} is not reached exactly once; give an example on which it is"
        )
    return visit.entered if site.side == "input" else visit.left


def _layers(backbone: nn.Module, modules: Iterable[nn.Module]) -> Iterator[Layer]:
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    for weight, bias in (weights for module in modules for weights in _weights_of(module)):
        yield Layer(names[id(weight)], weight, bias)


def _weights_of(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(module, nn.MultiheadAttention):  # it does not call its own projections as modules
        if module.in_proj_weight is not None:
            yield module.in_proj_weight, module.in_proj_bias
        yield module.out_proj.weight, module.out_proj.bias
    elif isinstance(module, nn.Linear) or (
        isinstance(module, _ConvNd) and module.groups == 1 and not module.transposed
    ):
        yield module.weight, module.bias
