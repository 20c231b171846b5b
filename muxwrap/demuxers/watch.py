"""Noticing micro-batches that nobody has announced: gradients pile up without a step of the optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from muxwrap.demuxers.accumulations import is_announced, is_apart
from muxwrap.demuxers.ranks import running_shards

_Mark = tuple[int, int] | None

_stepped = 0
"""Steps of all of torch's optimizers; fused ones leave no trace in the versions of the parameters."""


def _count(*_: Any) -> None:
    global _stepped
    _stepped += 1


register_optimizer_step_post_hook(_count)


class Watch:
    """Warns, once per model, where each micro-batch is centered for itself. A plain object beside a model's hooks."""

    def __init__(self) -> None:
        self._warned = False
        self._steps: int | None = None
        self._mark: _Mark = None

    def look(self, modules: Iterable[nn.Module], demuxers: Iterable[Any]) -> bool:
        """Look at the parameters in a call of training: have gradients changed since a call before, and none of them?

        Not asked in compiled code.
        """
        if self._warned or torch.compiler.is_compiling() or not torch.is_grad_enabled() or is_announced() or is_apart():
            return False
        if not any(each.center_gradients and each.n > 1 for each in demuxers):
            return False
        shards = running_shards()
        if shards:  # the model's own parameters are temporary
            trained = [part.sharded_param for part in shards[0].fsdp_params]
        else:
            trained = [p for module in modules for p in module.parameters()]
        parameters = [p for p in trained if p.requires_grad]
        steps = _stepped + sum(p._version for p in parameters)  # an optimizer may step on some of them only
        mark = next(((id(p.grad), p.grad._version) for p in parameters if p.grad is not None), None)
        if steps != self._steps:
            self._steps, self._mark = steps, mark
            return False
        return mark is not None and mark != self._mark

    def warn(self, _gradient: Tensor) -> None:
        """Be a hook of what such a call separated: warn, if it gets a gradient."""
        if not self._warned:
            self._warned = True
            warnings.warn(_MESSAGE, stacklevel=2)


_MESSAGE = (
    "backward() is called again before the optimizer steps: the gradients of each micro-batch are centered for themselves, and "
    "differ from those of one batch. Call backward() inside 'with muxwrap.training.accumulation(model):' and step after it, or "
    "take a demuxer with center_gradients=False"
)
