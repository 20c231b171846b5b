"""The statistics that hide the index, as the trained model has them in evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from muxwrap._util.examples import quiet, run
from muxwrap.demuxers import IndexNorm
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped


def settle_index_norm(model: Multiplex, batches: Iterable[Any]) -> None:
    """Replace the running statistics of :class:`~muxwrap.demuxers.IndexNorm` by those of all batches, in place.

    Running means of training lag behind the weights and see dropout. What a probe reads of the index afterwards is what they
    are wrong by. Here everything but the norm is in evaluation mode, and all batches count alike, as in
    ``torch.optim.swa_utils.update_bn``. Call it after training; nothing is trained.

    Args:
        model: a wrapped model whose demuxer has ``hide_index=True``; its modes are left as they were.
        batches: as for :func:`muxwrap.evaluation.index_readable`, rows of the kind that will be embedded, shuffled; some
            thousand.

    Raises:
        MuxwrapError: the model is not wrapped or has no such norm, or there is no batch.
    """
    check_wrapped(model, "settle_index_norm")
    norms = [norm for part in model.demuxers.modules() if isinstance(part, IndexNorm) for norm in _batch_norms(part)]
    if not norms:
        raise MuxwrapError(
            "settle_index_norm(model): no demuxer hides the index; wrap with demux=partial(MLP, hide_index=True)"
        )
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise MuxwrapError("settle_index_norm(batches): there is no batch; give some thousand rows")
    momenta = [norm.momentum for norm in norms]
    with quiet(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches
            norm.train()
        try:
            for batch in chain([first], batches):
                run(model, batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _batch_norms(part: nn.Module) -> list[_BatchNorm]:
    return [module for module in part.modules() if isinstance(module, _BatchNorm)]
