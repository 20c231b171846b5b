"""Slower learning for the weights between features of different instances."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
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
    a checkpoint. It costs one copy of the trunk's weights at each step.

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
            sites has weights, a ``rate`` outside of 0 ... 1, or the optimizer has none of these weights.
    """
    sizes = features_per_instance(model, "damp_crosstalk")
    if not 0 <= rate <= 1:
        raise MuxwrapError(f"damp_crosstalk(rate={rate!r}): a share of the learning rate, 0 <= rate <= 1")
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    layers = [layer for layer in trunk_layers(model, example_input, "damp_crosstalk") if id(layer.weight) in trained]
    if not layers:
        raise MuxwrapError(
            "damp_crosstalk(optimizer, model): the optimizer has none of the trunk's weights; make it of model.parameters()"
        )
    weights = [layer.weight for layer in layers]
    own = [_within_instances(weight, sizes) for weight in weights]
    before: list[Tensor] = []

    def remember(*_: Any) -> None:
        before[:] = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def damp(*_: Any) -> None:
        for weight, old, within in zip(weights, before, own, strict=True):
            weight.copy_(torch.where(within.to(weight.device), weight, old.lerp(weight, rate)))
        before.clear()

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(damp)
    return [layer.name for layer in layers]


def _within_instances(weight: Tensor, sizes: list[int]) -> Tensor:
    """Return which weights lie between features of one instance: bool ``[out, in, 1, ...]``."""
    within = torch.zeros(weight.shape[:2], dtype=torch.bool, device=weight.device)
    outs, ins = (instance_slices(size, sizes) for size in weight.shape[:2])
    for rows, columns in ((rows, columns) for rows in outs for columns in ins):
        for to, of in zip(rows, columns, strict=True):
            within[to, of] = True
    return within.view(*within.shape, *(1,) * (weight.ndim - 2))
