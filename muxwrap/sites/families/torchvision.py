"""torchvision's classification models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from muxwrap._util.examples import pixels
from muxwrap.site import Site
from muxwrap.sites.families import generic
from muxwrap.sites.tracing.trace import Trace

mux_candidates = generic.mux_candidates


def matches(backbone: nn.Module) -> bool:
    """Whether the model's class comes from torchvision."""
    return any(cls.__module__.startswith("torchvision.") for cls in type(backbone).__mro__)


def example(backbone: nn.Module) -> Any:
    """Images of the size that the model was published with."""
    size = getattr(backbone, "image_size", 299 if type(backbone).__name__ == "Inception3" else 224)
    return pixels(backbone, 3, size, size)


def demux_candidates(backbone: nn.Module, trace: Trace) -> Iterator[tuple[Site, ...]]:
    """Before the last layer."""
    yield from generic.demux_candidates(backbone, trace)
