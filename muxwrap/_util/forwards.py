"""What a module's forward takes: asked by hooks in every call, and read from its signature once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

Kinds = Mapping[str, Any]
"""The names of arguments in their order, and their kinds, as :class:`inspect.Parameter` has them."""

_known: WeakKeyDictionary[FunctionType, Kinds] = WeakKeyDictionary()
"""By the function that a method calls, which every instance of a class shares; it does not outlive the class."""


def forward_arguments(module: nn.Module) -> Kinds:
    """Return the arguments of a module's forward as it is now, without the module itself."""
    forward = module.forward
    function = forward.__func__ if isinstance(forward, MethodType) else None
    # What was put in the place of the method is read anew, and compiled code has its own way with signatures.
    if not isinstance(function, FunctionType) or torch.compiler.is_compiling():
        return _kinds(forward)
    known = _known.get(function)
    if known is None:
        known = _known[function] = _kinds(forward)
    return known


def _kinds(forward: Any) -> Kinds:
    return {name: parameter.kind for name, parameter in inspect.signature(forward).parameters.items()}
