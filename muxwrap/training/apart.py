"""An untrained trunk that begins as n copies of one small network, each in its own instance's block of features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site
from muxwrap.multiplex import Multiplex
from muxwrap.sites.find import example_of
from muxwrap.sites.probe import Trace, trace
from muxwrap.training.head import check_wrapped

Layer = tuple[str, Tensor, Tensor | None]  # name of the weight, weight [out, in, ...], bias [out]


@torch.no_grad()
def start_apart(model: Multiplex, example_input: Any = None) -> list[str]:
    """Make the trunk of an untrained model block-diagonal in place, with equal blocks: n copies of one small network.

    In a random dense trunk every instance is noise to the n - 1 others. The first thing that such a model learns is to
    suppress the noise, and with it what it would have to learn from: it stays at chance, the longer the larger n is. Here
    every weight between features of different instances starts at zero, and the others are enlarged so that a layer's
    output keeps its size. Since the blocks are equal, and the strategy's maps too (:meth:`Strategy.start_alike`), what one
    index learns about the input the others have learned, where each would otherwise see 1/n of the data only. This is a
    start and no constraint: training fills in the zeros and lets the copies differ. (The heads and slots of the exact
    construction, see :mod:`muxwrap.theory`, as an initialisation.)

    Which features are whose is given by the strategy's blocks: feature f of a layer with a multiple of dim features
    belongs to the instance that has coordinate ``f mod dim``; other widths are cut into n parts. Layers of fewer than n
    features, convolutions with groups, and norms stay as they are.

    Args:
        model: wrapped with a strategy that has blocks, ``slots`` or ``binary``. Its trunk's weights are changed, so it must
            not be pretrained.
        example_input: a call of the backbone, as for :func:`muxwrap.wrap`; needed for models that do not say what they
            take.

    Returns:
        The names of the weights that were changed; biases of the same layers are changed, too.

    Raises:
        MuxwrapError: the model is not wrapped, the strategy has no blocks, or nothing between the sites has weights.
    """
    check_wrapped(model, "start_apart")
    blocks = model.strategy.blocks
    if blocks is None:
        raise MuxwrapError(
            f"start_apart(model): the instances of {type(model.strategy).__name__} lie on top of each other, so that the trunk "
            "cannot begin with a part for each; wrap with strategy='slots'"
        )
    seen = trace(model.backbone, example_of(model.backbone, example_input))
    layers = list(_layers(model.backbone, seen, model.sites.mux[0], model.sites.demux[0]))
    found = [layer for layer in layers if min(layer[1].shape[:2]) >= model.n]
    if not found:
        raise MuxwrapError(
            f"start_apart(model): no linear or convolutional weight of {model.n} features or more between the "
            f"{model.sites.mux[0]} and the {model.sites.demux[0]}"
        )
    model.strategy.start_alike()
    for _, weight, bias in found:
        _copies(weight, bias, blocks)
    return [name for name, _, _ in found]


def _layers(backbone: nn.Module, seen: Trace, mux: Site, demux: Site) -> Iterator[Layer]:
    """Yield what runs between the sites and has weights, once each."""
    first, last = _moment(seen, mux), _moment(seen, demux)
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    inside = dict.fromkeys(visit.module for visit in seen.visits if first <= visit.entered and visit.left <= last)
    for weight, bias in (weights for module in inside for weights in _of_module(module)):
        yield names[id(weight)], weight, bias


def _of_module(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(module, nn.MultiheadAttention):  # its own projections are no calls of modules
        if module.in_proj_weight is not None:
            yield module.in_proj_weight, module.in_proj_bias
        yield module.out_proj.weight, module.out_proj.bias
    elif isinstance(module, nn.Linear) or (
        isinstance(module, _ConvNd) and module.groups == 1 and not module.transposed
    ):
        yield module.weight, module.bias


def _moment(seen: Trace, site: Site) -> int:
    visit = seen.at(site.path)
    if visit is None:
        raise MuxwrapError(f"start_apart(example_input=...): the {site} is not reached once on this example")
    return visit.entered if site.side == "input" else visit.left


def _parts(features: int, blocks: list[int]) -> list[list[slice]]:
    """Return which of a layer's features belong to which instance, for every segment of dim features."""
    n, dim = len(blocks), sum(blocks)
    if features % dim:
        bounds = [math.ceil(i * features / n) for i in range(n + 1)]
        return [[slice(a, b) for a, b in pairwise(bounds)]]
    ends = list(accumulate(blocks, initial=0))
    starts = range(0, features, dim)
    return [[slice(s + a, s + b) for a, b in pairwise(ends)] for s in starts]


def _copies(weight: Tensor, bias: Tensor | None, blocks: list[int]) -> None:
    """Fill the blocks of all instances with the leading corner of each pair of segments, and the rest with zeros."""
    outs, ins = (_parts(size, blocks) for size in weight.shape[:2])
    drawn = weight.clone()
    weight.zero_()
    for rows in outs:
        for columns in ins:
            corner = drawn[rows[0].start :, columns[0].start :]
            for to, of in zip(rows, columns, strict=True):
                height, width = to.stop - to.start, of.stop - of.start
                gain = math.sqrt(weight.shape[1] / (width * len(ins)))
                weight[to, of] = gain * corner[:height, :width]
        if bias is not None:
            for to in reversed(rows):  # the first block, which the others are copied from, last
                bias[to] = bias[rows[0].start : rows[0].start + to.stop - to.start].clone()
