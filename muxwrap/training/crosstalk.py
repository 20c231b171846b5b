"""Slower learning for the weights between features of different instances."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.instance_slices import features_per_instance, instance_slices
from muxwrap.training.trunk_layers import trunk_layers


def damp_crosstalk(optimizer: Optimizer, model: Multiplex, rate: float = 0.1, example_input: Any = None) -> list[str]:
    """Let weights between features of different instances learn at ``rate`` times the learning rate.

    For a trunk that :func:`~muxwrap.training.start_apart`. The companions of an instance are drawn anew in every epoch, so
    the gradient of a weight that reads them should be mostly noise. Adam divides every gradient by its own size and would
    make steps of full length of it, and what these weights add to an instance is crosstalk. Here a step's change of them is
    multiplied by ``rate``; weights between features of one instance, and all parameters outside the trunk, learn as before.

    It works by hooks of the optimizer, so nothing changes in the model or in what either saves: call it again after loading
    a checkpoint or unpickling. ``copy.deepcopy`` of model and optimizer together keeps it, and groups of parameters that the
    optimizer gets later are damped, too. It costs one copy of the trunk's weights at each step.

    Args:
        optimizer: any of torch's, made of the model's parameters.
        model: wrapped with a strategy that puts the instances side by side, ``slots`` or ``binary``.
        rate: 0 keeps these weights as they are, 1 changes nothing.
        example_input: a call of the backbone, as for :func:`muxwrap.wrap`; needed for models without a config of their
            input.

    Returns:
        The names of the weights, those of the layers that ``start_apart`` changes.

    Raises:
        MuxwrapError: the model is not wrapped, the strategy does not put the instances side by side, nothing between the
            sites has weights, a ``rate`` outside of 0 ... 1, the optimizer has none of these weights, or they are sharded.
    """
    sizes = features_per_instance(model, "damp_crosstalk")
    if not 0 <= rate <= 1:
        raise MuxwrapError(f"damp_crosstalk(rate={rate!r}): a share of the learning rate, 0 <= rate <= 1")
    layers = trunk_layers(model, example_input, "damp_crosstalk")
    if any(type(layer.weight) is not nn.Parameter for layer in layers):
        raise MuxwrapError(
            f"damp_crosstalk(model): the trunk's weights are {type(layers[0].weight.data).__name__}s, which are sharded or "
            "quantized; it takes plain weights, as DistributedDataParallel keeps them"
        )
    damping = _Damping([layer.weight for layer in layers], sizes, rate)
    if not damping.trained(optimizer):
        raise MuxwrapError(
            "damp_crosstalk(optimizer, model): the optimizer has none of the trunk's weights; make it of model.parameters()"
        )
    damping.attach(optimizer)
    trained = set(map(id, damping.trained(optimizer)))
    return [layer.name for layer in layers if id(layer.weight) in trained]


class _Damping:
    """Damps the steps of an optimizer, and of its deep copies.

    Args:
        weights: of the trunk. Those that the optimizer has at a step are damped, groups that were added later included.
        sizes: features of each instance in a mixture.
        rate: of the learning rate.
    """

    def __init__(self, weights: list[Tensor], sizes: list[int], rate: float) -> None:
        self.weights, self.sizes, self.rate = weights, sizes, rate
        self._before: list[tuple[Tensor, Tensor]] = []
        self._within: dict[int, Tensor] = {}

    def trained(self, optimizer: Optimizer) -> list[Tensor]:
        """Return the weights that an optimizer has."""
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return [weight for weight in self.weights if id(weight) in own]

    def attach(self, optimizer: Optimizer) -> None:
        """Act at every step."""
        optimizer.register_step_pre_hook(self._remember)
        optimizer.register_step_post_hook(self._damp)
        optimizer.__deepcopy__ = partial(self._copy, optimizer)  # type: ignore[attr-defined]

    def _remember(self, optimizer: Optimizer, *_: Any) -> None:
        self._before = [(weight, weight.detach().clone()) for weight in self.trained(optimizer)]

    @torch.no_grad()
    def _damp(self, *_: Any) -> None:
        for weight, old in self._before:
            within = self._within.get(id(weight))
            if within is None or within.device != weight.device:
                within = self._within[id(weight)] = _within_instances(weight, self.sizes)
            weight.copy_(torch.where(within, weight, old.lerp(weight, self.rate)))
        self._before = []

    def _copy(self, optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
        """Deep-copy an optimizer, which leaves hooks out, and damp the copy's steps on the copied weights."""
        copied = memo[id(optimizer)] = type(optimizer).__new__(type(optimizer))
        copied.__setstate__(copy.deepcopy(optimizer.__getstate__(), memo))
        _Damping(copy.deepcopy(self.weights, memo), self.sizes, self.rate).attach(copied)
        return copied


def _within_instances(weight: Tensor, sizes: list[int]) -> Tensor:
    """Return which weights lie between features of one instance: bool ``[out, in, 1, ...]``."""
    within = torch.zeros(weight.shape[:2], dtype=torch.bool, device=weight.device)
    outs, ins = (instance_slices(size, sizes) for size in weight.shape[:2])
    for rows, columns in ((rows, columns) for rows in outs for columns in ins):
        for to, of in zip(rows, columns, strict=True):
            within[to, of] = True
    return within.view(*within.shape, *(1,) * (weight.ndim - 2))
