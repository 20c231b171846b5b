"""How a cell is trained: the recipe, the optimizer that it means, and the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.studies.common.cells import Progress
from muxwrap.training import damp_crosstalk, distillation

TAUGHT = 0.5  # share of the teacher's answers in the loss, where there is a teacher
SHOWN = 50  # steps between two lines of progress


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What training depends on besides model and data.

    Args:
        epochs: passes over the training rows.
        mixtures: mixtures per step, but at least ``least_rows`` rows.
        least_rows: rows per step at least, also for a small n and for a bare model.
        seed: of everything that is random in training.
        lr: highest learning rate of the cycle.
        decay: weight decay.
        rise: share of the steps in which the learning rate rises.
        clip: highest norm of the gradients; None does not clip.
        crosstalk: rate at which crosstalk is learned; 1 is the whole rate.
    """

    epochs: int
    mixtures: int
    least_rows: int
    seed: int
    lr: float
    decay: float
    rise: float
    clip: float | None
    crosstalk: float = 1

    def rows(self, n: int) -> int:
        """Return the rows per step of a model with ``n`` instances per mixture."""
        return n * max(self.mixtures if n > 1 else 1, math.ceil(self.least_rows / n))

    def optimizer(self, parameters: Iterable[Any], model: nn.Module, example: Any = None) -> torch.optim.Optimizer:
        """Return AdamW over parameters or groups of them, which damps crosstalk where the recipe does."""
        made = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.decay, fused=True)
        if self.crosstalk != 1:
            damp_crosstalk(made, model, self.crosstalk, example)  # type: ignore[arg-type]
        return made


class Epochs(Protocol):
    """Batches of a known number; every iteration is another epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...


def train(
    model: nn.Module,
    batches: Epochs,
    loss_of: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    progress: Progress,
) -> Iterator[int]:
    """Train with one cycle of the learning rate, and yield the number of every epoch when it is done.

    Args:
        model: trained in place.
        batches: the numbers of the rows of every batch.
        loss_of: the loss of such rows.
        optimizer: over the model's parameters.
        recipe: epochs, learning rate and clipping.
        progress: shows a line.
    """
    total = len(batches) * recipe.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=total, pct_start=recipe.rise)
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        for step, rows in enumerate(batches, 1):
            loss = loss_of(rows)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            if step % SHOWN == 0 or step == len(batches):
                progress(f"epoch {epoch}/{recipe.epochs}, step {step}/{len(batches)}, loss {loss.item():.3f}")
        yield epoch


def taught_loss(loss: Tensor, logits: Tensor, answers: Tensor | None) -> Tensor:
    """Let a teacher's ``answers`` to the same rows be half of the loss; None leaves the loss as it is."""
    return loss if answers is None else (1 - TAUGHT) * loss + TAUGHT * distillation(logits, answers)
