"""The class of a module as its author wrote it."""

from __future__ import annotations

from torch import nn


def class_of(module: nn.Module) -> type[nn.Module]:
    """Return a module's class; of one that ``fully_shard`` has changed, the class that it had."""
    cls = type(module)
    return cls.__bases__[-1] if cls.__bases__[0].__name__ == "FSDPModule" else cls
