"""The few things that training in several processes asks for: whose turn it is, and sums over all."""

from __future__ import annotations

from torch import Tensor, distributed, nn


def rank() -> int:
    """Return this process's number; 0 where there is one process only."""
    return distributed.get_rank() if _initialised() else 0


def summed(value: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if _initialised():
        distributed.all_reduce(value)
    return value


def parallel(module: nn.Module) -> nn.Module:
    """Return the module such that its gradients are averaged over all processes, if there is a process group."""
    if not _initialised():
        return module
    device = next(module.parameters()).device
    # The task's head, and what else retrieval does not reach, gets no gradient.
    return nn.parallel.DistributedDataParallel(
        module, device_ids=None if device.type == "cpu" else [device], find_unused_parameters=True
    )


def wait() -> None:
    """Wait until every process is here."""
    if _initialised():
        distributed.barrier()


def _initialised() -> bool:
    return distributed.is_available() and distributed.is_initialized()
