"""An untrained trunk that begins as n copies of one small network, each in its own instance's features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.strategies.features.slots import Slots
from muxwrap.training.instance_slices import features_per_instance, instance_slices
from muxwrap.training.trunk_layers import trunk_layers


@torch.no_grad()
def start_apart(model: Multiplex, example_input: Any = None) -> list[str]:
    """Make the trunk of an untrained model block-diagonal in place, with equal blocks: n copies of one small network.

    In a random dense trunk every instance is noise to the n - 1 others. The first thing that such a model learns is to
    suppress the noise, and with it what it would have to learn from: it stays at chance, the longer the larger n is. Here
    every weight between features of different instances starts at zero, and the others are enlarged so that a layer's
    output keeps its size. Since the blocks are equal, and the strategy's maps too (:meth:`Slots.start_alike`), what one
    index learns about the input the others have learned, where each would otherwise see 1/n of the data only. This is a
    start, not a constraint: training fills in the zeros and lets the copies differ. (The heads and slots of the exact
    construction, see :mod:`muxwrap.theory`, as an initialisation.)

    The strategy determines which features belong to which instance: feature f of a layer with a multiple of dim features
    belongs to the instance that has coordinate ``f mod dim``; other widths are cut into n slices. Layers of fewer than n
    features, convolutions with groups, and norms stay as they are.

    Args:
        model: wrapped with a strategy that puts the instances side by side, ``slots`` or ``binary``. Its trunk's weights
            are changed, so it must not be pretrained.
        example_input: a call of the backbone, as for :func:`muxwrap.wrap`; needed for models without a config of their
            input.

    Returns:
        The names of the weights that were changed; biases of the same layers are changed, too.

    Raises:
        MuxwrapError: the model is not wrapped, the strategy does not put the instances side by side, nothing between the
            sites has weights, or some of these are frozen, sharded or quantized.
    """
    sizes = features_per_instance(model, "start_apart")
    layers = trunk_layers(model, example_input, "start_apart")
    frozen = [layer.name for layer in layers if not layer.weight.requires_grad]
    if frozen:
        raise MuxwrapError(
            f"start_apart(model): {frozen[0]} is frozen, as pretrained weights are; it makes every trunk weight anew. "
            "Start before freezing, or keep the pretrained trunk and leave start_apart out"
        )
    if any(type(layer.weight) is not nn.Parameter for layer in layers):
        raise MuxwrapError(
            f"start_apart(model): {layers[0].name} is sharded or quantized; start before fully_shard or quantizing"
        )
    if isinstance(model.strategy, Slots):
        model.strategy.start_alike()
    for layer in layers:
        _make_copies(layer.weight, layer.bias, sizes)
    return [layer.name for layer in layers]


def _make_copies(weight: Tensor, bias: Tensor | None, sizes: list[int]) -> None:
    """Fill the blocks of all instances with the leading corner of the first one, and the rest with zeros."""
    outs, ins = (instance_slices(size, sizes) for size in weight.shape[:2])
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
            for to in reversed(rows):  # the first slice, which the others are copied from, last
                bias[to] = bias[rows[0].start : rows[0].start + to.stop - to.start].clone()
