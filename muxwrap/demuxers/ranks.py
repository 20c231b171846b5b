"""The ranks whose gradients are averaged: over their mixtures together a gradient is centered, not rank by rank."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError

Ranks = Any
"""A ``torch.distributed.ProcessGroup``, which is not there in every build of torch."""

_local = threading.local()


def ranks_together() -> Ranks | None:
    """Return the process group over which the running call's gradients are averaged; None where it is this process alone.

    ``DistributedDataParallel`` and ``fully_shard`` tell. Other ways to average gradients center them per process.

    Raises:
        MuxwrapError: in ``DistributedDataParallel.join()``, where ranks that have run out of rows take no part.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    shards = running_shards()
    group = None if shards is None else _group_of(shards)
    parallel = torch.nn.parallel.DistributedDataParallel._active_ddp_module
    if group is None and parallel is not None:
        if parallel._join_config.enable:
            raise MuxwrapError(
                "DistributedDataParallel.join(): a rank without rows takes no part in the mean that centers gradients, and the "
                "others would wait for it; use drop_last=True in the sampler, or a demuxer with center_gradients=False"
            )
        group = parallel.process_group
    return None if group is None or torch.distributed.get_world_size(group) == 1 else group


@contextmanager
def sharing(module: nn.Module) -> Iterator[None]:
    """Inside the block, take the ranks over which :func:`torch.distributed.fsdp.fully_shard` has sharded a module.

    Raises:
        MuxwrapError: the ranks have no group of their own.
    """
    outer = getattr(_local, "shards", None)
    _local.shards = shards_of(module) or outer
    try:
        yield
    finally:
        _local.shards = outer


def running_shards() -> list[Any] | None:
    """Return the groups of parameters that ``fully_shard`` made of the running model; None where it did not."""
    return getattr(_local, "shards", None)


def shards_of(module: nn.Module) -> list[Any] | None:
    """Return the groups of parameters that ``fully_shard`` made of a module and what is in it; None where it did not."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return None
    states = (part._get_fsdp_state() for part in module.modules() if isinstance(part, fsdp.FSDPModule))
    return [group for state in states for group in state._fsdp_param_groups] or None


def _group_of(shards: list[Any]) -> Ranks:
    mesh = shards[0].mesh_info.mesh
    if mesh.size() == torch.distributed.get_world_size():
        return torch.distributed.group.WORLD
    if mesh.ndim == 1:
        return mesh.get_group()
    raise MuxwrapError(
        f"fully_shard over a mesh {tuple(mesh.shape)} that is a part of the processes: no group averages its gradients at "
        "once, so that they cannot be centered; use a demuxer with center_gradients=False"
    )


def common_of_ranks(separated: Tensor, ranks: Ranks) -> Tensor:
    """Return a number per entry of ``[1, n, ...]`` whose gradient is spread evenly over the mixtures of all ranks.

    Its value is of no use.
    """
    common: Tensor = _CommonOfRanks.apply(separated.sum(0, keepdim=True), separated.shape[0], ranks)
    return common


class _CommonOfRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, mixtures: int, ranks: Ranks) -> Tensor:
        ctx.mixtures, ctx.ranks = mixtures, ranks
        return torch.zeros_like(sums)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return mean_of_ranks(gradient, ctx.mixtures, ctx.ranks), None, None


def mean_of_ranks(total: Tensor, mixtures: int, ranks: Ranks | None) -> Tensor:
    """Return the mean over the mixtures of all ranks; zeros where there is one mixture in all.

    Args:
        total: the sum over this rank's mixtures, ``[1, n, ..., dim]``. Where sequences are longer on other ranks, the
            missing positions count as zeros, as those of padding do in one batch.
        mixtures: of this rank.
        ranks: None for this process alone.
    """
    if ranks is None:
        return total / mixtures if mixtures > 1 else torch.zeros_like(total)
    exact = total.to(torch.promote_types(total.dtype, torch.float32))
    whole = padded(exact, _largest(exact.shape, total.device, ranks)) if total.ndim > 3 else exact
    sent = torch.cat([whole.flatten(), whole.new_tensor([mixtures])])
    torch.distributed.all_reduce(sent, group=ranks)
    mean = torch.where(sent[-1] > 1, sent[:-1] / sent[-1], 0.0).view(whole.shape)
    return mean[tuple(map(slice, total.shape))].to(total.dtype)


def _largest(shape: torch.Size, device: torch.device, ranks: Ranks) -> list[int]:
    sizes = torch.tensor(shape, device=device)
    torch.distributed.all_reduce(sizes, torch.distributed.ReduceOp.MAX, group=ranks)
    return sizes.tolist()


def padded(x: Tensor, sizes: list[int]) -> Tensor:
    """Fill up with zeros behind every axis."""
    missing = [each for own, size in zip(reversed(x.shape), reversed(sizes), strict=True) for each in (0, size - own)]
    return F.pad(x, missing)
