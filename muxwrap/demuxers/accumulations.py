"""Which calls are micro-batches of one optimizer step: said by the user, or by the library that runs the loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.nn.parallel import DistributedDataParallel

from muxwrap.demuxers.ranks import running_shards
from muxwrap.errors import MuxwrapError

if TYPE_CHECKING:  # imported where one begins: it takes PyTorch's compiler along, which takes seconds
    from muxwrap.demuxers.held_back import Accumulation

_local = threading.local()


def accumulation() -> Accumulation | None:
    """Return what the running call holds its gradient back with; None where it is a batch of its own.

    A call is known to be a micro-batch inside :func:`together`, in ``DistributedDataParallel.no_sync()``, and where
    Accelerate (and so a Trainer) runs the loop. The first call outside ends an accumulation of the latter two.

    Raises:
        MuxwrapError: it is a micro-batch, and several ranks work together in a way that cannot hold gradients back.
    """
    if is_announced():
        _check_ranks()
    said: Accumulation | None = getattr(_local, "said", None)
    if said is not None:
        return said
    found = _pending()
    more = _more_to_come()
    if more and found is None:
        found = _local.found = _begin()
    if found is not None:
        found.closing = not more
    return found


def is_announced() -> bool:
    """Whether the running call is known to be a micro-batch."""
    return getattr(_local, "said", None) is not None or _pending() is not None or _more_to_come()


@contextmanager
def apart() -> Iterator[None]:
    """Let every call in the block be a batch of its own on purpose, though their gradients add up before a step."""
    outer, _local.apart = is_apart(), True
    try:
        yield
    finally:
        _local.apart = outer


def is_apart() -> bool:
    """Whether the running call is in such a block."""
    return getattr(_local, "apart", False)


def _check_ranks() -> None:
    if running_shards() is not None:
        raise MuxwrapError(
            "gradient accumulation under fully_shard: the weights of a micro-batch's trunk are freed before its gradient is "
            "centered with those of the others; give one batch per step, use DistributedDataParallel, or take a demuxer with "
            "center_gradients=False"
        )
    parallel = DistributedDataParallel._active_ddp_module
    if parallel is not None and (parallel.find_unused_parameters or parallel.static_graph):
        raise MuxwrapError(
            "gradient accumulation in DistributedDataParallel: the trunk's gradients are held back until the last micro-batch, "
            "and find_unused_parameters=True takes them for missing; give find_unused_parameters=False (to a Trainer "
            "ddp_find_unused_parameters=False) and no static_graph, or take a demuxer with center_gradients=False"
        )


def _begin() -> Accumulation:
    from muxwrap.demuxers.held_back import Accumulation

    return Accumulation()


def _pending() -> Accumulation | None:
    found: Accumulation | None = getattr(_local, "found", None)
    return None if found is None or found.done else found


@contextmanager
def together() -> Iterator[None]:
    """Let all calls in the block be one batch, whose gradients go on into the trunk at its end."""
    outer, _local.said = getattr(_local, "said", None), _begin()
    try:
        yield
        _local.said.release()
    finally:
        _local.said.drop()
        _local.said = outer


def _more_to_come() -> bool:
    """Whether the optimizer does not step after the backward of this call."""
    parallel = DistributedDataParallel._active_ddp_module
    if parallel is not None and not parallel.require_backward_grad_sync:
        return True
    if any(not group.reduce_grads for group in running_shards() or ()):
        return True
    accelerate = sys.modules.get("accelerate.state")
    if accelerate is None or not accelerate.GradientState._shared_state:
        return False
    return not accelerate.GradientState().sync_gradients
