"""Tensors that are held by objects which are no containers: distributions, a user's own classes, namespaces.

They are seen, so that rows which are missing in them are noticed, and never replaced: what an object has computed of a tensor
when it was made would stay as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.transforms import Transform

from muxwrap._util.nested import children, named_tensors


def all_named_tensors(value: Any, skip: Callable[[object], bool] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in a value and the path to it: those in containers first, then those that other objects hold."""
    yield from named_tensors(value, skip=skip)
    yield from held_tensors(value, skip=skip)


def held_tensors(
    value: Any, path: str = "", skip: Callable[[object], bool] | None = None, within: tuple[object, ...] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that objects in a value hold, and the paths to them.

    Args:
        value: where to look.
        path: of the value itself.
        skip: which keys and fields to leave out, with all that is in them.
        within: the objects around the value; one that holds itself is not looked into again.
    """
    if isinstance(value, Tensor):
        if within:
            yield path, value
        return
    parts = list(children(value))
    if not parts and _holds(value) and all(value is not each for each in within):
        within = (*within, value)
        parts = [(name, f".{name}", part) for name, part in vars(value).items()]
    for key, step, part in parts:
        if skip is None or not skip(key):
            yield from held_tensors(part, path + step, skip, within)


def _holds(value: Any) -> bool:
    """Whether a value is an object of a user's class, or a distribution: what libraries return besides is their own matter."""
    if isinstance(value, (Distribution, Transform)):
        return True
    if isinstance(value, _NONE) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.partition(".")[0] not in _LIBRARIES


_NONE = (type, nn.Module, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
_LIBRARIES = frozenset({"torch", "transformers", "numpy", "builtins", "functools", "enum"})
