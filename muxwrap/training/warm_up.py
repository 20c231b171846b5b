"""The retrieval warm-up: a multiplexed text model learns to keep its instances apart before it learns a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped
from muxwrap.training.head import RetrievalHead, head_at
from muxwrap.training.loop import Loop, Measurement
from muxwrap.training.objective import Retrieval
from muxwrap.training.stream import endless, own_random_state
from muxwrap.training.token_sites import find_token_sites

RISE = 0.05  # share of the steps in which the default learning rate rises


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up did.

    Args:
        steps: how many were made; fewer than asked for if the target was reached before.
        accuracy: held-out retrieval accuracy at the end, 0 to 1; None without ``held_out``.
        per_index: the same per index.
        history: a :class:`Measurement` every so many steps.
        head: the retrieval head, for :func:`retrieval_accuracy`, :class:`RetrievalLoss` or another warm-up.
    """

    steps: int
    accuracy: float | None
    per_index: tuple[float, ...] | None
    history: tuple[Measurement, ...]
    head: RetrievalHead


def warm_up(
    model: Multiplex,
    batches: Iterable[Any],
    steps: int,
    *,
    lr: float = 1e-3,
    head: RetrievalHead | None = None,
    held_out: Iterable[Any] | None = None,
    every: int = 100,
    target: float | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None,
    scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> WarmUp:
    """Train a wrapped text model to predict the token that instance i has at position j (DataMUX, section 3.3).

    No labels are needed. Every parameter of the model that requires a gradient is trained, in place, and the head with
    them; the model's modes and the global random state are left as they were. The call ends at the trunk's end, so the
    model's own head neither runs nor changes. Gradients are clipped to a norm of 1.

    For several processes, mixed precision, or checkpoints to resume from, give a Trainer, Accelerate or a loop of your own
    a :class:`RetrievalLoss` with ``task=0``: the same objective.

    Args:
        model: the wrapped model.
        batches: ``input_ids [rows, length]``, or mappings with ``input_ids`` and, where there is padding,
            ``attention_mask``. A data loader or a list is read again and again; a generator needs enough for all steps.
            Give multiples of n rows, shuffled, so that instances meet different companions.
        steps: optimizer steps to make.
        lr: of the default AdamW. The default is for small models; it is too high for 12 layers of 768 features. (Published
            for those: 5e-5, and 500,000 steps.)
        head: a head to go on with, or one with other options; by default a new one of :func:`retrieval_head`.
        held_out: batches to measure retrieval accuracy on, which can be read several times.
        every: steps between two measurements.
        target: stop at this held-out accuracy (0 to 1).
        optimizer: makes an optimizer from the list of parameters: ``partial(torch.optim.SGD, lr=0.1)``.
        scheduler: makes a scheduler from the optimizer, stepped after every step. By default the learning rate rises for a
            twentieth of the steps and falls linearly to zero.
        seed: of dropout, drawn instances, and a new head.
        progress: show a bar, if tqdm is installed.

    Raises:
        MuxwrapError: the model is not wrapped or embeds no tokens; batches are empty, end too early, or hold ids outside of
            the vocabulary; the loss is not finite; a bad number.
    """
    model = getattr(model, "_orig_mod", model)
    check_wrapped(model, "warm_up")
    _check(steps, every, held_out, target)
    device = next(model.parameters()).device
    with own_random_state(device):
        stream = endless(batches, seed, device)
        first = next(stream)
        sites = find_token_sites(model, first)
        retrieval = Retrieval(model, head or head_at(model, sites, seed=seed), sites)
        trained = [parameter for parameter in retrieval.parameters() if parameter.requires_grad]
        made = AdamW(trained, lr=lr) if optimizer is None else optimizer(trained)
        schedule = LambdaLR(made, partial(rise_and_fall, steps)) if scheduler is None else scheduler(made)
        loop = Loop(retrieval, made, schedule, held_out, target, seed)
        history = loop.run(chain([first], stream), steps, every, progress)
    last = history[-1]
    return WarmUp(last.step, last.held_out, last.per_index, tuple(history), retrieval.head)


def rise_and_fall(steps: int, step: int) -> float:
    """Return the factor of the learning rate at a step."""
    rise = max(1, int(RISE * steps))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def _check(steps: int, every: int, held_out: Any, target: float | None) -> None:
    for name, value in (("steps", steps), ("every", every)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MuxwrapError(f"warm_up({name}={value!r}): give an int >= 1")
    if target is not None and not 0 < target <= 1:
        raise MuxwrapError(f"warm_up(target={target!r}): it is a held-out accuracy, above 0 and up to 1")
    if held_out is None and target is not None:
        raise MuxwrapError("warm_up(target=): it is a held-out accuracy; give held_out= as well")
    if held_out is not None and iter(held_out) is held_out:
        raise MuxwrapError("warm_up(held_out=): it can be read only once; give a list or a data loader")
