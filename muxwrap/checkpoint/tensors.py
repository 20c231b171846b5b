"""A model's tensors by name: which names mean the same tensor, and whether other tensors fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PREFIX = "backbone."
"""Before the backbone's names in those of the wrapped model."""


def distinct(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is saved: every tensor once, under the wrapped model's names."""
    names = [_saved_name(group, tensors) for group in _tied(model)]
    return {name: tensors[name].detach().contiguous() for name in names}


def of_backbone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors, under its own names."""
    return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


def added(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that are not the backbone's."""
    return {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}


def misfit(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Describe how tensors differ from a model's in names and shapes; None where they do not."""
    own = model.state_dict()
    unknown = [name for name in tensors if name not in own]
    if unknown:
        return f"{_some(unknown)} not of the model"
    missing = [group[0] for group in _tied(model) if not any(name in tensors for name in group)]
    if missing:
        return f"{_some(missing)} missing"
    other = next((name for name in tensors if tensors[name].shape != own[name].shape), None)
    if other is not None:
        return f"{other} is {list(tensors[other].shape)}, and the model's is {list(own[other].shape)}"
    return None


def _saved_name(group: list[str], tensors: Mapping[str, Tensor]) -> str:
    """Return the name by which a tensor of several names is saved: the backbone's, without which its file is not whole."""
    there = [name for name in group if name in tensors]
    return next((name for name in there if name.startswith(PREFIX)), there[0])


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the names of a model's tensors; several names of the same tensor stand together."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        view = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        placeless = tensor.is_meta or not tensor.numel() or tensor.data_ptr() == 0  # the last, if it is sharded
        same = id(tensor) if placeless else view
        groups.setdefault(same, []).append(name)
    return list(groups.values())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'is' if len(names) == 1 else 'are'}"
