"""Whether two models compute the same function once they have the same tensors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from muxwrap._util.classes import class_of

_NO_MATTER = {"training", "gradient_checkpointing", "grad_checkpointing"}
"""Attributes that change how a model is run, and not what it computes."""
_VALUES = (bool, int, float, str, type(None), torch.dtype)


def difference(a: nn.Module, b: nn.Module) -> str | None:
    """Describe the first difference between two models, their tensors' values aside; None where there is none.

    Compared are, module by module, the class, the plain attributes (numbers, names, functions: strides, heads, an
    activation) and the shapes of parameters and buffers. Attributes that ``a`` alone has are somebody's notes.
    """
    left, right = dict(a.named_modules()), dict(b.named_modules())
    for path in (*left, *right):
        if path not in left or path not in right or class_of(left[path]) is not class_of(right[path]):
            found = [class_of(side[path]).__name__ if path in side else "missing" for side in (left, right)]
            return f"{path or 'the model'} is {found[0]} in one and {found[1]} in the other"
        key = _differing(left[path], right[path])
        if key is not None:
            return f"{path or 'the model'} differs in {key}"
    return None


def _differing(a: nn.Module, b: nn.Module) -> str | None:
    own, other = _plain(a), _plain(b)
    for key in sorted(own.keys() | other.keys()):
        replaced = key not in other and hasattr(class_of(a), key)  # a method of the class, for this object alone
        told_later = key == "padding_idx" and own.get(key) is None  # decoders', which they use for nothing else
        if replaced or (key in other and own.get(key, key) != other[key] and not told_later):
            return key
    shapes = [{name: tuple(t.shape) for name, t in _tensors(module).items()} for module in (a, b)]
    return next((name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)), None)


def _plain(module: nn.Module) -> dict[str, Any]:
    held = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _NO_MATTER}
    found = {key: _value(value) for key, value in held.items()}
    return {key: value for key, value in found.items() if value is not NotImplemented}


def _value(value: Any) -> Any:
    """Return what an attribute is compared by, or NotImplemented for objects that have no value of their own."""
    if isinstance(value, _VALUES):
        return value
    if isinstance(value, (tuple, list)):
        items = [_value(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    if isinstance(value, functools.partial):
        return [
            _value(value.func),
            _value(value.args),
            _value(sorted(value.keywords)),
            _value([*value.keywords.values()]),
        ]
    if inspect.isroutine(value) or inspect.isclass(value):
        return (getattr(value, "__module__", None), getattr(value, "__qualname__", repr(value)))
    return NotImplemented


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    held = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


class _NotDrawn(TorchFunctionMode):
    """Leaves out operations in place on tensors without values: random initial values take most of a large model's making."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.startswith("_") and name != "requires_grad_" and args:
            first = args[0]
            if isinstance(first, Tensor) and first.is_meta:
                return first
        return func(*args, **(kwargs or {}))


@contextmanager
def without_values() -> Iterator[None]:
    """Make models on ``meta``, without drawing initial values and without moving the random state."""
    with torch.device("meta"), _NotDrawn(), torch.random.fork_rng(devices=()):
        yield
