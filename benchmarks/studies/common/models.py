"""What every study asks of a network, bare or multiplexed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import muxwrap

APART = "apart"  # slots with a trunk that starts apart
SLOW_CROSSTALK = 0.1  # the rate at which such a trunk learns crosstalk


def instances(model: nn.Module) -> int:
    """Return how many instances share a mixture: 1 for a bare model."""
    return getattr(model, "n", 1)


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters lie."""
    return next(model.parameters()).device


def strategy_fields(model: nn.Module) -> dict[str, str | None]:
    """Return the record's fields of strategy and demuxer; None for a bare model."""
    multiplexed = isinstance(model, muxwrap.Multiplex)
    return {
        "strategy": model.strategy.name if multiplexed else None,
        "demux": model.demuxer.name if multiplexed else None,
    }


def operations(model: nn.Module, inputs: Callable[[int], dict[str, Any] | Tensor]) -> float:
    """Return the floating-point operations per instance in evaluation, multiplexing included.

    Args:
        model: bare or multiplexed; it is left in evaluation mode.
        inputs: makes a batch of so many rows, as a tensor or as keyword arguments.
    """
    rows = 8 * instances(model)
    batch = inputs(rows)
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch) if isinstance(batch, Tensor) else model(**batch)
    return counter.get_total_flops() / rows
