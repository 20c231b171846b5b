"""Gradient accumulation as one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from muxwrap.demuxers.accumulations import together
from muxwrap.multiplex import Multiplex, check_wrapped


@contextmanager
def accumulation(model: Multiplex) -> Iterator[None]:
    """Center the gradients of all micro-batches in the block together, as those of one batch.

        with accumulation(model):
            for x, y in micro_batches:
                (loss(model(x), y) / len(micro_batches)).backward()
        optimizer.step()

    Every ``backward()`` in the block stops where instances are separated; at the end of the block one backward goes through
    the trunks of all. Their graphs are kept until then: the trunk takes as much memory as for the whole batch, of which it
    runs one row in n. Gradient checkpointing of the trunk's layers makes that small.

    A Trainer, Accelerate and ``DistributedDataParallel.no_sync()`` need no block. Do not clip, unscale or step inside.

    Args:
        model: the wrapped model.

    Raises:
        MuxwrapError: the model is not wrapped; at the end, a loss has gone backward through the trunk by another way than
            the separated states.
    """
    check_wrapped(getattr(model, "_orig_mod", model), "accumulation")
    with together():
        yield
