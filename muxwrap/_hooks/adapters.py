"""PEFT's adapters: layers around a layer, and a shell around a whole model. PEFT itself is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter
from typing import Any

from torch import nn

from muxwrap._util.forwards import forward_arguments

_HELD = ("base_layer", "original_module")
"""What PEFT's layers call the layer that they took the place of."""


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is one of PEFT's that stand around a layer: LoRA and its like, or a copy that trains."""
    return _is_of_peft(module) and any(name in module._modules for name in _HELD)


def is_shell(module: nn.Module) -> bool:
    """Whether a module is PEFT's shell around a whole model."""
    return _is_of_peft(module) and hasattr(type(module), "get_base_model")


def is_adapted(model: nn.Module) -> bool:
    """Whether there are adapters in a model."""
    return any(map(is_adapter, model.modules()))


def inside(model: nn.Module) -> nn.Module:
    """Return the model in PEFT's shell, which has the layers and the names of the arguments; others as they are."""
    return inside(model.get_base_model()) if is_shell(model) else model  # type: ignore[operator]


def prefix_of(model: nn.Module) -> str:
    """Return what stands before the names of the model inside: ``"base_model.model."``, or nothing without a shell."""
    inner = inside(model)
    path = next(path for path, module in model.named_modules() if module is inner)
    return f"{path}." if path else ""


def outermost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of a model, but nothing that is inside of an adapter: its place is the adapter's."""
    hidden: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not path.startswith(hidden):
            yield path, module
            hidden = (*hidden, f"{path}.") if is_adapter(module) else hidden


def arguments_of(module: nn.Module) -> list[tuple[str, int | None]]:
    """Return the names of what a module's forward takes, each with its place (None: by keyword alone).

    A shell of PEFT names few or none of them itself, and passes on what it does not name.
    """
    own = forward_arguments(module)
    if not is_shell(module):
        return [(name, at) for at, name in enumerate(own)]
    named = [name for name, kind in own.items() if kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    others = [name for name, _ in arguments_of(inside(module)) if name not in named]
    if named:
        return [*((name, at) for at, name in enumerate(named)), *((name, None) for name in others)]
    return [(name, at) for at, name in enumerate(others)]


def learns_prompts(model: Any) -> bool:
    """Whether a shell of PEFT puts tokens of its own before every row, outside of the model in it."""
    configs = getattr(model, "peft_config", {}) if is_shell(model) else {}
    return any(getattr(config, "is_prompt_learning", False) for config in configs.values())


def _is_of_peft(module: nn.Module) -> bool:
    return any(cls.__module__.partition(".")[0] == "peft" for cls in type(module).__mro__)
