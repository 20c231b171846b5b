"""How every model of the study is trained: the same epochs, batches and loss."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import muxwrap
from benchmarks.studies.convert.rows import Rows
from benchmarks.studies.convert.scores import SCORED, accuracy_at, sizes
from muxwrap.training import distillation, sandwich

BATCH = 64  # rows per step
RISE, CLIP, DECAY = 0.1, 1.0, 0.01


class OutOfTimeError(Exception):
    """The time is up; what was begun is not recorded."""


@dataclass(frozen=True)
class How:
    """What training depends on besides model and data.

    Args:
        epochs: passes over the training rows.
        lr: highest learning rate; it rises for a tenth of the steps and falls linearly.
        seed: of the order of the rows.
        deadline: ``time.time()`` at which to give up.
        elastic: train a model of several n at the smallest, the largest and one between in every step; otherwise it is
            trained at one after the other, for as many epochs each.
        begun: file in which a long training is kept after every epoch, and from which it goes on; None keeps nothing.
    """

    epochs: int
    lr: float
    seed: int
    deadline: float = float("inf")
    elastic: bool = False
    begun: Path | None = None


class Taught(NamedTuple):
    """A teacher's logits and states for all training rows, on the device."""

    logits: Tensor
    states: Tensor


class Trained(NamedTuple):
    state: dict[str, Tensor]  # of the best epoch
    selected: tuple[float, ...]  # accuracy on the selection split after every epoch, 0 to 100


def loss_of(output: tuple[Tensor, Tensor], labels: Tensor, taught: Taught | None, rows: Tensor) -> Tensor:
    """Return half cross-entropy and half the teacher's answers, and the squared distance to the teacher's states."""
    logits, states = (each.float() for each in output)
    loss = F.cross_entropy(logits, labels)
    if taught is None:
        return loss
    apart = F.mse_loss(states, taught.states[rows].float())
    return 0.5 * loss + 0.5 * distillation(logits, taught.logits[rows]) + apart


def fit(model: nn.Module, train: Rows, select: Rows, taught: Taught | None, how: How) -> Trained:
    """Train in place; word embeddings stay as they are. Return the epoch that is best on the selection split.

    Raises:
        OutOfTimeError: the deadline has passed.
    """
    torch.manual_seed(how.seed)
    words = _words(model)
    parameters = [each for each in model.parameters() if each is not words]
    words.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameters, lr=how.lr, weight_decay=DECAY, fused=True)
    each_epoch = -(-len(train) // BATCH)
    total = each_epoch * how.epochs
    best, selected = _go_on(model, optimizer, how)
    step = each_epoch * len(selected)
    for epoch in range(len(selected), how.epochs):
        model.train()
        several = sizes(model)
        if len(several) > 1 and not how.elastic:
            model.n = several[epoch * len(several) // how.epochs]
        for rows, length in train.batches(BATCH, 1000 * how.seed + epoch):
            if time.time() > how.deadline:
                raise OutOfTimeError
            for group in optimizer.param_groups:
                group["lr"] = how.lr * _rate(step, total)
            for _ in sandwich(model) if how.elastic else (None,):
                with train.autocast():
                    output = model(**train.inputs(rows, length))
                loss_of(output, train.labels[rows], taught, rows).backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        selected.append(fmean(accuracy_at(model, select, n) for n in (several if how.elastic else several[-1:])))
        if selected[-1] == max(selected):
            best = copy.deepcopy(model.state_dict())
        if how.begun is not None:
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
            keep(how.begun, {**states, "best": best, "selected": selected})
    if how.begun is not None:
        how.begun.unlink()
    return Trained(best, tuple(selected))


def _go_on(model: nn.Module, optimizer: torch.optim.Optimizer, how: How) -> tuple[dict[str, Tensor], list[float]]:
    """Go on after the last epoch that was kept; return the best state and what each epoch reached, both empty at first."""
    if how.begun is None or not how.begun.exists():
        return {}, []
    kept = torch.load(how.begun, map_location=next(model.parameters()).device)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["random"].cpu())
    return kept["best"], kept["selected"]


def keep(path: Path, state: Any) -> None:
    """Write tensors to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _words(model: nn.Module) -> nn.Parameter:
    encoder: Any = model.backbone if isinstance(model, muxwrap.Multiplex) else model
    found: nn.Parameter = encoder.embeddings.word.weight
    return found


def _rate(step: int, total: int) -> float:
    rise = max(1, int(RISE * total))
    return (step + 1) / rise if step < rise else (total - step) / max(1, total - rise)


@torch.no_grad()
def answers(model: nn.Module, split: Rows) -> Taught:
    """Return a teacher's logits and states for all rows, in their order."""
    model.eval()
    parts, order = [], []
    for rows, length in split.batches(SCORED, None):
        with split.autocast():
            parts.append([each.float() for each in model(**split.inputs(rows, length))])
        order.append(rows)
    place = torch.cat(order).argsort()
    logits, states = (torch.cat(each)[place] for each in zip(*parts, strict=True))
    return Taught(logits, states)
