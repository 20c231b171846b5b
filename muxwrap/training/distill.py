"""Distillation as one call: a trained model that was wrapped learns to answer as it did before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from muxwrap._util.quantised import QUANTISED, layer_from
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped
from muxwrap.training.agreement import Agreement, no_autocast
from muxwrap.training.distill_loop import DistillLoop, DistillMeasurement
from muxwrap.training.distillation_loss import coefficients
from muxwrap.training.stream import endless, own_random_state
from muxwrap.training.teacher import fingerprint, teacher_of
from muxwrap.training.teaching import Teaching
from muxwrap.training.warm_up import rise_and_fall


@dataclass(frozen=True)
class Distilled:
    """What a distillation did.

    Args:
        steps: how many were made; fewer than asked for if it stopped early.
        best_step: the one whose weights the model has: the best on the held-out rows, or the last without any.
        agreement: with the teacher on the held-out rows at that step: the share of equal choices between classes, 0 to 1, or
            for answers that are not classes (``distillation=0``) the mean cosine. None without ``held_out``.
        history: a :class:`DistillMeasurement` every so many steps.
        teacher: the frozen teacher, for another distillation.
    """

    steps: int
    best_step: int
    agreement: float | None
    history: tuple[DistillMeasurement, ...]
    teacher: nn.Module


def distill(
    model: Multiplex,
    batches: Iterable[Any],
    steps: int,
    *,
    teacher: nn.Module | None = None,
    held_out: Iterable[Any] | None = None,
    task: float = 0.5,
    distillation: float = 0.5,
    states: float | None = None,
    layers: float = 0.0,
    temperature: float = 2.0,
    lr: float = 1e-4,
    every: int = 100,
    patience: int | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None,
    scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    dtype: torch.dtype | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Distilled:
    """Train a wrapped model to answer as its backbone did before it was wrapped, in place.

    The loss is half the labels' cross-entropy, half the distance to the teacher's softened answers (Hinton, Vinyals and Dean
    2015, section 2), and the squared distance to the teacher's states where the head begins (the class token's last
    state, for a text classifier; FitNets, Romero et al. 2015, equation 3). Labels are optional: without them the
    teacher's answers have the labels' part. Every parameter of the model that requires a gradient is trained; the
    teacher's weights, the modes and the global random state are left as they were. Gradients are clipped to a norm of 1.

    For several processes or a Trainer, the same losses are :class:`DistillationLoss`.

    Args:
        model: the wrapped model, of a trained backbone.
        batches: inputs (a tensor, a tuple of arguments or a dict of keyword arguments), ``(inputs, labels)`` pairs, or dicts
            that may hold ``labels``. A data loader or a list is read again and again; a generator needs enough for all
            steps. Give multiples of n rows, shuffled, so that instances meet different companions.
        steps: optimizer steps to make.
        teacher: by default a frozen copy of the backbone as it is at the first distillation of this model, so call it before
            any other training; or a trained model of the same inputs and classes.
        held_out: batches to measure agreement with the teacher on; the best weights are kept.
        task: coefficient of the labels' cross-entropy.
        distillation: coefficient of the teacher's answers; 0 where they are not a choice between classes.
        states: coefficient of the states before the head; by default 1, and 0 with a teacher of your own.
        layers: coefficient of the states of the layers that run on mixtures: they are to be the mixtures of the teacher's.
        temperature: of the answers.
        lr: of the default AdamW.
        every: steps between two measurements.
        patience: stop after so many measurements without a better agreement.
        optimizer: makes an optimizer from the list of parameters: ``partial(torch.optim.SGD, lr=0.1)``.
        scheduler: makes a scheduler from the optimizer, stepped after every step. By default the learning rate rises for a
            twentieth of the steps and falls linearly to zero.
        dtype: ``torch.bfloat16`` calls both models under autocast.
        resume: a file to write to at every measurement, and to go on from if it is there. The batches that were trained on
            are read again and left out, and the weights are those of a call that was not interrupted (on a processor to the
            bit).
        seed: of dropout and of what the batches draw.
        progress: show a bar, if tqdm is installed.

    Raises:
        MuxwrapError: the model is not wrapped, is quantised, or nothing of it learns; the teacher shares its weights or has not
            the states; batches are empty, end too early or hold no input; labels that are not classes; the loss is not finite;
            a bad number; a file of another call.
    """
    model = getattr(model, "_orig_mod", model)
    check_wrapped(model, "distill")
    _check(steps, every, patience, held_out, dtype)
    _check_learns(model)
    weights = coefficients(teacher, task, distillation, states, layers, temperature)
    frozen = teacher_of(model, teacher, "distill")
    teaching = Teaching(model, frozen, weights, "distill")
    device = next(model.parameters()).device
    frozen.to(device)
    autocast = no_autocast if dtype is None else partial(torch.autocast, device.type, dtype)
    with own_random_state(device):
        measured = None if held_out is None else Agreement(model, frozen, held_out, weights.distillation > 0, autocast)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trained:
            raise MuxwrapError(
                f"distill({type(model.backbone).__name__}): no parameter requires a gradient, so there is nothing to learn; "
                "requires_grad_() of some, or a strategy that learns, such as 'reversible'"
            )
        made = AdamW(trained, lr=lr) if optimizer is None else optimizer(trained)
        schedule = LambdaLR(made, partial(rise_and_fall, steps)) if scheduler is None else scheduler(made)
        file = None if resume is None else Path(resume)
        identity = {"steps": steps, "every": every, "seed": seed, "teacher": fingerprint(frozen)}
        loop = DistillLoop(teaching, made, schedule, measured, every, patience, seed, autocast, file, identity)
        loop.run(endless(batches, seed, device), steps, progress)
    best = loop.best_step()
    agreement = next(each.agreement for each in loop.history if each.step == best)
    return Distilled(loop.history[-1].step, best, agreement, tuple(loop.history), frozen)


def _check_learns(model: Multiplex) -> None:
    """Refuse quantised layers: what lies before them would not be trained."""
    path = layer_from(model, *QUANTISED)
    if path is not None:
        raise MuxwrapError(
            f"distill({type(model.backbone).__name__}): {path!r} is quantised, and no gradient passes through it; distil the "
            "model as it was before (Frontier.best(served=False) chooses among such), and quantise it last"
        )


def _check(steps: int, every: int, patience: int | None, held_out: Any, dtype: Any) -> None:
    for name, value in (
        ("steps", steps),
        ("every", every),
        *([("patience", patience)] if patience is not None else []),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MuxwrapError(f"distill({name}={value!r}): give an int >= 1")
    if patience is not None and held_out is None:
        raise MuxwrapError("distill(patience=...): it waits for a better held-out agreement; give held_out= as well")
    if held_out is not None and iter(held_out) is held_out:
        held = type(held_out).__name__
        raise MuxwrapError(f"distill(held_out={held}): it can be read only once; give a list or a data loader")
    if dtype not in (None, torch.bfloat16):
        raise MuxwrapError(f"distill(dtype={dtype!r}): give torch.bfloat16 or None; float16 needs scaled gradients")
