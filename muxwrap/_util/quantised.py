"""Layers that torch has quantised."""

from __future__ import annotations

from torch import nn

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
"""Where classes of layers are found whose weights are packed: no gradient passes through them."""
ROUNDING = "torch.ao.nn.qat"
"""Where those are found that round their weights while they are trained."""


def layer_from(model: nn.Module, *places: str) -> str | None:
    """Return the path of the first layer whose class is found in one of the places, or None."""
    return next((path for path, module in model.named_modules() if type(module).__module__.startswith(places)), None)
