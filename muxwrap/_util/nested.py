"""Reaching the tensor inside what modules pass around: tuples, dicts and Hugging Face's ``ModelOutput``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor with rows (two axes or more) in a value, looking into tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return value if value.ndim >= 2 else None
    for part in _children(value):
        found = first_tensor(part)
        if found is not None:
            return found
    return None


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a value."""
    if isinstance(value, Tensor):
        yield value
    for part in _children(value):
        yield from tensors_in(part)


def map_first_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the value with its first tensor changed, of the same type; what was given is left as it was."""
    found = first_tensor(value)
    return value if found is None else replace_object(value, found, change(found))


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the value with every tensor changed, of the same type."""
    for tensor in list(tensors_in(value)):
        changed = change(tensor)
        value = value if changed is tensor else replace_object(value, tensor, changed)
    return value


def replace_object(value: Any, old: Any, new: Any) -> Any:
    """Return the value with every occurrence of the object ``old`` replaced, of the same type."""
    if value is old:
        return new
    if isinstance(value, tuple):
        parts = [replace_object(part, old, new) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [replace_object(part, old, new) for part in value]
    if isinstance(value, dict):
        changed = {key: replace_object(part, old, new) for key, part in value.items()}
        # A ModelOutput is a dataclass over a dict: it is made again from its fields.
        return changed if type(value) is dict else type(value)(**changed)
    return value


def _children(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return value
    return value.values() if isinstance(value, dict) else ()
