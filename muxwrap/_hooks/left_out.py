"""Noticing an optimizer that was made before wrapping: it trains the backbone and not what muxwrap added."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from muxwrap._hooks.components import Components
from muxwrap.demuxers.ranks import running_shards


class LeftOut:
    """Warns, once per model, where optimizers step on the backbone alone. A plain object beside a model's hooks.

    Two calls of training are waited for, each with such a step after it and none on what was added: a model may have an
    optimizer per parameter, and several may take turns.
    """

    def __init__(self) -> None:
        self._done = False
        self._stepped = False
        self._calls = 0
        self._own: frozenset[int] = frozenset()
        self._added: frozenset[int] = frozenset()

    def look(self, model: Components) -> None:
        """Look, in a call of training, at what optimizers have stepped on since the calls before."""
        if self._done or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        self._calls += self._stepped
        self._stepped = False
        if self._calls >= 2:
            self._done = True
            _looking.pop(id(self), None)
            warnings.warn(_MESSAGE, stacklevel=6)
            return
        if running_shards():  # the model's own parameters are temporary
            return
        self._own = frozenset(map(id, model.backbone.parameters()))
        added = (p for module in model.added for p in module.parameters() if p.requires_grad)
        self._added = frozenset(map(id, added)) - self._own
        if self._added:
            _looking[id(self)] = ref(self)

    def stepped_on(self, parameters: set[int]) -> None:
        """Note what an optimizer stepped on."""
        if self._added & parameters:
            self._done = True
            _looking.pop(id(self), None)
        elif self._own & parameters:
            self._stepped = True


_looking: dict[int, ReferenceType[LeftOut]] = {}
"""A plain dict, whose items are taken in one step whatever other threads add."""


def _note(optimizer: Optimizer, *_: Any) -> None:
    if _looking:
        parameters = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for key, reference in list(_looking.items()):
            each = reference()
            if each is None:
                _looking.pop(key, None)
            else:
                each.stepped_on(parameters)


register_optimizer_step_post_hook(_note)

_MESSAGE = (
    "the optimizer steps on the backbone's parameters and on none of those that muxwrap added, so that the demuxer stays as it "
    "began; make the optimizer of the wrapped model's parameters() after wrapping, or, where they are to stay, set "
    "requires_grad_(False) on model.strategy and model.demuxers"
)
