"""The teacher: what a wrapped model's backbone was before it was trained on mixtures, or another model."""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
from torch import nn

from muxwrap._hooks.running import remove_hooks
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex

_kept: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()


def teacher_of(model: Multiplex, teacher: nn.Module | None, call: str) -> nn.Module:
    """Return a frozen teacher in evaluation mode.

    Args:
        model: the student.
        teacher: as given, or None for a copy of the backbone as it is now; the same copy is returned for the same model as
            long as the model lives.
        call: the function that the user called; messages repeat it.

    Raises:
        MuxwrapError: the teacher shares weights with its student.
    """
    if teacher is None:
        if model not in _kept:
            copied = copy.deepcopy(model.backbone)
            remove_hooks(copied)
            _kept[model] = copied.requires_grad_(False).eval()
        return _kept[model]
    if {id(p) for p in teacher.parameters()} & {id(p) for p in model.parameters()}:
        raise MuxwrapError(
            f"{call}(teacher={type(teacher).__name__}): it shares weights with its student; give a "
            "copy.deepcopy(bare) that was made before wrapping, or no teacher, and one is copied"
        )
    return teacher


def fingerprint(teacher: nn.Module) -> float:
    """Return a number that tells one teacher from another, the same for the same weights wherever they lie."""
    sums = [value.detach().double().cpu().abs().sum() for value in teacher.parameters()]
    return float(torch.stack(sums).sum()) if sums else 0.0
