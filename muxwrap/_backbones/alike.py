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


def alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models differ in nothing but their tensors' values.

    Compared are, module by module, the class, the plain attributes (numbers, names, functions: strides, heads, an
    activation) and the shapes of parameters and buffers. Attributes that ``a`` alone has are somebody's notes.
    """
    left, right = dict(a.named_modules()), dict(b.named_modules())
    return left.keys() == right.keys() and all(_alike(left[path], right[path]) for path in left)


def _alike(a: nn.Module, b: nn.Module) -> bool:
    own, other = _plain(a), _plain(b)
    replaced = any(
        hasattr(class_of(a), key) for key in own.keys() - other.keys()
    )  # methods of the class, for this object
    told_later = (
        {"padding_idx"} if own.get("padding_idx", 0) is None else set()
    )  # decoders', which they use for nothing else
    shapes = [{name: tuple(t.shape) for name, t in _tensors(module).items()} for module in (a, b)]
    return (
        class_of(a) is class_of(b)
        and not replaced
        and all(key in own and own[key] == value for key, value in other.items() if key not in told_later)
        and shapes[0] == shapes[1]
    )


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
