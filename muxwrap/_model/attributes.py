"""Reading, setting and deleting attributes of a wrapped model: what is the backbone's is done to the backbone."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from muxwrap._model.asked import Asked
from muxwrap._model.forwarding import PARTS, REPLACING_METHODS, UNLOADING_METHODS, belongs_to, check_change, forwarded
from muxwrap._model.replaced import watch_forward
from muxwrap.errors import MuxwrapError

_METHODS = {"at", "attach", "detach", "ensemble", "fixed", "grouped", "grouped_by", "members"}
"""Short names that a backbone may have, too."""


class Attributes(Asked):
    """The part of a wrapped model that passes attributes on."""

    _OWN: ClassVar[frozenset[str]]
    """What the wrapped model holds itself, also where a backbone has an attribute of the same name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "backbone" or name.startswith("__"):
                raise
        if name in REPLACING_METHODS:
            return partial(self._attached_anew, getattr(self.backbone, name))
        if name in PARTS and hasattr(self.backbone, name):
            return partial(self._call_part, name)
        if name in UNLOADING_METHODS:
            return partial(self._unloaded, getattr(self.backbone, name))
        if name == "print_trainable_parameters" and hasattr(self.backbone, name):
            return self._print_trainable_parameters
        return forwarded(self.backbone, name)

    def __setattr__(self, name: str, value: Any) -> None:
        declared = getattr(type(self), name, None)
        if isinstance(declared, property) and declared.fset is None:
            raise MuxwrapError(f"model.{name} = ... cannot be set; it is read from what the wrapped model holds")
        if name in _METHODS and belongs_to(self.backbone, name):
            raise MuxwrapError(f"model.{name} is a method of the wrapper; the backbone's own is model.backbone.{name}")
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"model.{name} = {type(value).__name__}(...)", value)
            setattr(self.backbone, name, value)
        else:
            super().__setattr__(name, value)
            if name == "forward":
                watch_forward(self)

    def __delattr__(self, name: str) -> None:
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"del model.{name}")
            delattr(self.backbone, name)
        else:
            super().__delattr__(name)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer, with the backbone if it has the attribute."""
        register = self.backbone.register_buffer if self._is_of_backbone(name) else super().register_buffer
        register(name, tensor, persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter, with the backbone if it has the attribute."""
        register = self.backbone.register_parameter if self._is_of_backbone(name) else super().register_parameter
        register(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a child module, to the backbone if it has the attribute."""
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"model.add_module({name!r}, ...)", module)
            self.backbone.add_module(name, module)
        else:
            super().add_module(name, module)

    def _is_of_backbone(self, name: str) -> bool:
        """Whether reading an attribute asks the backbone, and it has it."""
        held = self.__dict__
        own = name in held or any(name in held[kind] for kind in ("_parameters", "_buffers", "_modules"))
        return not (own or name in self._OWN or hasattr(type(self), name)) and belongs_to(self.backbone, name)
