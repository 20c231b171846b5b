"""A demuxer's gradient without the part that all mixtures have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.demuxers.accumulations import accumulation
from muxwrap.demuxers.ranks import common_of_ranks, ranks_together


def centered(separated: Tensor) -> Tensor:
    """Return the same numbers, whose gradient has no part that is the same for all mixtures of the batch.

    At the start most of what is separated at an index is the same whatever the instance is; what tells instances apart is
    smaller, the more so the larger n is. A step of the optimizer along the common part changes every answer at once, so
    that it is taken first: it grows, the rest fades beside it, and training stays at chance. The bias of the head can
    learn what is common just as well. So only ``g - mean(g)`` over the mixtures goes back, for every index and
    position; up to a constant that is on average the gradient without its common part, however few mixtures there are.
    (Of the gradient through a batch normalisation, Ioffe and Szegedy 2015, section 3, the part that is due to the mean;
    without statistics of batches, so that training and evaluation compute the same.)

    For demuxers whose maps tell the indices apart. Those that do it by a learned term, as ``key`` and ``index``, learn
    that term from the common part.

    The mean is over the batch that an optimizer steps on: under ``DistributedDataParallel`` and ``fully_shard`` over all
    ranks, and over the micro-batches of an accumulation that is known to be one
    (:func:`muxwrap.training.accumulation`).

    Args:
        separated: ``[g, n, ...]``. One mixture alone has nothing in common with others and is returned as it is.
    """
    if not torch.is_grad_enabled():
        return separated
    ranks = ranks_together()
    together = accumulation()
    if together is not None:
        return together.hold(separated, ranks)
    if ranks is not None:
        common = common_of_ranks(separated, ranks)
    elif separated.shape[0] == 1:
        return separated
    else:
        common = separated.mean(0, keepdim=True)
    return separated - (common - common.detach())
