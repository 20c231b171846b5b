"""Reaching the tensor inside what modules pass around: tuples, mappings, dataclasses and Hugging Face's ``ModelOutput``."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor with rows in a value: the first of two axes or more, else the first ``[B]``."""
    vector = None
    for tensor in tensors_in(value):
        if tensor.ndim >= 2:
            return tensor
        if vector is None and tensor.ndim == 1:
            vector = tensor
    return vector


def tensor_at(value: Any, part: int | None) -> Tensor | None:
    """Return one tensor of a value, counted in the order of :func:`tensors_in`; the first with rows without a number."""
    return first_tensor(value) if part is None else next(itertools.islice(tensors_in(value), part, None), None)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a value."""
    yield from (tensor for _, tensor in named_tensors(value))


def named_tensors(
    value: Any, path: str = "", skip: Callable[[object], bool] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in a value and the path to it, as Python writes it: ``["aux"][0]``, ``.logits``.

    Args:
        value: where to look.
        path: of the value itself.
        skip: which keys and fields to leave out, with all that is in them.
    """
    if isinstance(value, Tensor):
        yield path, value
    for key, step, part in children(value):
        if skip is None or not skip(key):
            yield from named_tensors(part, path + step, skip)


def named_arguments(args: Any, kwargs: Any) -> dict[str, Tensor]:
    """Return every tensor in the arguments of a call by its path: ``args[0]``, ``kwargs['batch'].mask``."""
    return {**dict(named_tensors(args, "args")), **dict(named_tensors(kwargs, "kwargs"))}


def map_first_tensor(value: Any, change: Callable[[Tensor], Tensor], part: int | None = None) -> Any:
    """Return the value with its first tensor changed, of the same type; what was given is left as it was.

    With ``part``, that one is changed instead; see :func:`tensor_at`.
    """
    found = tensor_at(value, part)
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
    if _is_dataclass(value) and not isinstance(value, (tuple, list, Mapping)):
        return _replace_fields(value, old, new)
    return _with_parts(value, lambda part: replace_object(part, old, new))


def new_containers(value: Any) -> Any:
    """Return the value in tuples, lists, mappings and dataclasses of its own, with the same tensors and objects in them."""
    if _is_dataclass(value) and not isinstance(value, (tuple, list, Mapping)):
        return _with_fields(value, {key: new_containers(part) for key, _, part in children(value)})
    return _with_parts(value, new_containers)


def _with_parts(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a tuple, list or mapping of the same type with every part changed, anything else as it is."""
    if isinstance(value, tuple):
        parts = [change(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [change(part) for part in value]
    if isinstance(value, Mapping):
        return _mapping_like(value, {key: change(part) for key, part in value.items()})
    return value


def _replace_fields(value: Any, old: Any, new: Any) -> Any:
    parts = {key: part for key, _, part in children(value)}
    changed = {key: replace_object(part, old, new) for key, part in parts.items()}
    if all(changed[key] is part for key, part in parts.items()):
        return value
    return _with_fields(value, changed)


def _with_fields(value: Any, fields: dict[Any, Any]) -> Any:
    twin = copy.copy(value)
    for key, part in fields.items():
        object.__setattr__(twin, key, part)  # it may be frozen
    return twin


def _mapping_like(value: Mapping[Any, Any], changed: dict[Any, Any]) -> Any:
    if type(value) is dict:
        return changed
    if dataclasses.is_dataclass(value):  # a ModelOutput is a dataclass over a dict: it is made again from its fields
        return type(value)(**changed)
    twin: Any = copy.copy(value)
    twin.update(changed)
    return twin


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def children(value: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield what a container holds: its key, the key as Python writes it, and the part."""
    if isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", None)
        for at, part in enumerate(value):
            yield (fields[at], f".{fields[at]}", part) if fields else (at, f"[{at}]", part)
    elif isinstance(value, Mapping):
        yield from ((key, f"[{key!r}]", part) for key, part in value.items())
    elif _is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value) if hasattr(value, field.name))
        yield from ((name, f".{name}", getattr(value, name)) for name in names)
