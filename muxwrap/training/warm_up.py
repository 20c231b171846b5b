"""The retrieval warm-up: a multiplexed text model learns to keep its instances apart before it learns a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.head import RetrievalHead, check_wrapped, head_at
from muxwrap.training.loop import Loop
from muxwrap.training.objective import Indices, Retrieval
from muxwrap.training.records import Record, Stop
from muxwrap.training.stream import Stream
from muxwrap.training.tokens import find_places

RISE = 0.05  # share of the steps in which the default learning rate rises


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up did.

    Args:
        steps: how many were made, those before an interruption included.
        stopped: why it ended: all ``"steps"`` were made, the ``"target"`` was reached, or ``"patience"`` ran out.
        accuracy: held-out retrieval accuracy at the end, 0 to 1; None without ``held_out``.
        per_index: the same for every index.
        history: a :class:`Record` every so many steps.
        head: the retrieval head, for :func:`retrieval_accuracy`, :class:`RetrievalLoss` or another warm-up.
    """

    steps: int
    stopped: str
    accuracy: float | None
    per_index: tuple[float, ...] | None
    history: tuple[Record, ...]
    head: RetrievalHead


def warm_up(
    model: Multiplex,
    batches: Iterable[Any],
    steps: int,
    *,
    lr: float = 1e-3,
    head: RetrievalHead | None = None,
    indices: Indices = "one",
    held_out: Iterable[Any] | None = None,
    every: int = 100,
    target: float | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    optimizer: Callable[[list[torch.nn.Parameter]], Optimizer] | None = None,
    scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    clip: float | None = 1.0,
    autocast: torch.dtype | None = None,
    seed: int = 0,
    progress: bool = True,
) -> WarmUp:
    """Train a wrapped text model to name the token that instance i has at position j (DataMUX, section 3.3).

    No labels are needed. Every parameter of the model that requires a gradient is trained, in place, and the head with
    them; the model's modes and the global random state are left as they were. The call ends at the trunk's end, so the
    model's own head neither runs nor changes.

    In a process group every process calls this with its own batches; gradients are averaged
    (``DistributedDataParallel``) and held-out counts are summed. Give the bare wrapped model.

    Args:
        model: the wrapped model.
        batches: ``input_ids [rows, length]``, or mappings with ``input_ids`` and, where there is padding,
            ``attention_mask``. A data loader or a list is read again and again; a generator needs enough for all steps.
            Give multiples of n rows, shuffled, so that instances meet different companions.
        steps: optimizer steps to make in all.
        lr: of the default AdamW. The default is for small models; it is too high for 12 layers of 768 features. (Published
            for those: 5e-5, and 500,000 steps.)
        head: a head to go on with, or one with other options; by default a new one of :func:`retrieval_head`.
        indices: ``"one"`` (published) draws one instance for every position, so that the vocabulary costs as much as in a
            bare model; ``"all"`` asks for all n.
        held_out: batches to measure retrieval accuracy on, which can be read several times.
        every: steps between two records, which are also measurements and savings.
        target: stop at this held-out accuracy (0 to 1).
        patience: stop after so many measurements without a better held-out accuracy. The last state is kept.
        checkpoint: a file. Where it exists, the warm-up goes on from it, and ends as it would have without the
            interruption: ``batches`` has to give the same batches again, of which those already seen are passed over.
            What batches draw from torch's CPU generator is drawn again alike.
        optimizer: makes an optimizer from the list of parameters: ``partial(torch.optim.SGD, lr=0.1)``.
        scheduler: makes a scheduler from the optimizer, stepped after every step. By default the learning rate rises for a
            twentieth of the steps and falls linearly to zero.
        clip: largest norm of the gradient; None clips nothing.
        autocast: ``torch.bfloat16`` runs the model in mixed precision.
        seed: of dropout, drawn instances, and a new head.
        progress: show a bar, if tqdm is installed.

    Raises:
        MuxwrapError: the model is not wrapped or embeds no tokens; batches are empty, end too early, or hold no ids of the
            vocabulary; the loss is not finite; ``checkpoint`` is of another model; a bad number.
    """
    model = getattr(model, "_orig_mod", model)
    check_wrapped(model, "warm_up")
    _check(steps, every, held_out, target, patience)
    stream = Stream(batches, seed, next(model.parameters()).device)
    with stream.own_random_state():
        places = find_places(model, stream.peek())
        retrieval = Retrieval(model, head or head_at(model, places, seed=seed), places, indices)
        trained = [parameter for parameter in retrieval.parameters() if parameter.requires_grad]
        made = AdamW(trained, lr=lr) if optimizer is None else optimizer(trained)
        schedule = LambdaLR(made, partial(_rise_and_fall, steps)) if scheduler is None else scheduler(made)
        loop = Loop(retrieval, made, schedule, held_out, Stop(target, patience), clip, autocast)
        stopped = loop.run(stream, steps, every, checkpoint, progress)
    last = loop.history[-1]
    return WarmUp(last.step, stopped, last.held_out, last.per_index, tuple(loop.history), retrieval.head)


def _rise_and_fall(steps: int, step: int) -> float:
    """Return the factor of the learning rate at a step."""
    rise = max(1, int(RISE * steps))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def _check(steps: int, every: int, held_out: Any, target: float | None, patience: int | None) -> None:
    for name, value in (("steps", steps), ("every", every), ("patience", patience)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise MuxwrapError(f"warm_up({name}={value!r}): give an int >= 1")
    if target is not None and not 0 < target <= 1:
        raise MuxwrapError(f"warm_up(target={target!r}): it is a held-out accuracy, above 0 and up to 1")
    if held_out is None and (target is not None or patience is not None):
        raise MuxwrapError("warm_up(target=, patience=): both are about held-out accuracy; give held_out= as well")
    if held_out is not None and iter(held_out) is held_out:
        raise MuxwrapError("warm_up(held_out=): it can be read only once; give a list or a data loader")
