"""Peak memory of a call beyond the weights, counted by torch itself on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker


def activation_bytes(model: nn.Module, call: Callable[[], object]) -> int:
    """Return the most bytes that were alive at once during a call, without parameters and buffers.

    On CUDA this is the allocator's own peak; elsewhere torch's ``MemTracker`` follows every tensor's storage.
    """
    if torch.cuda.is_available() and any(p.is_cuda for p in model.parameters()):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        call()
    weights = ("Parameter", "Buffer", "Total")
    peaks = tracker.get_tracker_snapshot("peak").values()
    return int(
        sum(size for peak in peaks for kind, size in peak.items() if str(getattr(kind, "value", kind)) not in weights)
    )
