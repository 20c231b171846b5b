"""The steps of a distillation: train, measure, keep the best, and go on where an interrupted call has ended."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from muxwrap._util.examples import in_mode
from muxwrap._util.progress import progress_bar
from muxwrap.errors import MuxwrapError
from muxwrap.training.agreement import Agreement
from muxwrap.training.distillation_loss import taught
from muxwrap.training.pairs import as_pair
from muxwrap.training.stream import seed_step
from muxwrap.training.teaching import Teaching

MAX_NORM = 1.0  # of the gradient


@dataclass(frozen=True)
class DistillMeasurement:
    """How a distillation stands after some steps.

    Args:
        step: steps made by then.
        loss: mean over the steps since the measurement before.
        agreement: on the held-out rows, see :class:`Distilled`; None without any.
        parts: the loss's parts in the last step, without their coefficients, by name.
    """

    step: int
    loss: float
    agreement: float | None
    parts: dict[str, float]


@dataclass
class DistillLoop:
    """What a distillation trains, and how.

    Args:
        teaching: the student and its teacher.
        optimizer: of the student's parameters.
        scheduler: of the optimizer.
        held_out: measures agreement; or None.
        every: steps between two measurements.
        patience: measurements without a better one after which to stop; or None.
        seed: of what the models draw.
        autocast: makes a context in which the models are called.
        file: to go on from and to write to; or None.
        identity: of the call; a file of another one is refused.
    """

    teaching: Teaching
    optimizer: Optimizer
    scheduler: LRScheduler
    held_out: Agreement | None
    every: int
    patience: int | None
    seed: int
    autocast: Any
    file: Path | None
    identity: dict[str, Any]
    history: list[DistillMeasurement] = field(default_factory=list)
    best: dict[str, Tensor] | None = None

    def run(self, batches: Iterator[Any], steps: int, progress: bool) -> None:
        """Train to the end, and leave the student with the weights of the best measurement."""
        model = self.teaching.model
        done = self._resume()
        for _ in range(done):  # the batches that have been trained on
            next(batches)
        total = torch.zeros((), device=next(model.parameters()).device)
        with in_mode(model, training=True), progress_bar(steps, "distillation", shown=progress) as advance:
            for _ in range(done):
                advance()
            for step in range(done + 1, steps + 1):
                if self._stopped():
                    break
                loss, parts = self._step(step, next(batches))
                total += loss
                if step % self.every and step != steps:
                    advance()
                    continue
                self._measure(step, total, parts)
                total.zero_()
                advance(**_shown(self.history[-1]))
        if self.best is not None:
            model.load_state_dict(self.best)

    def best_step(self) -> int:
        """Return the step whose weights are kept."""
        if self.held_out is None:
            return self.history[-1].step
        return max(self.history, key=_rank).step

    def _step(self, step: int, value: Any) -> tuple[Tensor, dict[str, Tensor]]:
        model = self.teaching.model
        batch = as_pair(value, model.backbone, "distill(batches=...)").to(next(model.parameters()).device)
        seed_step(self.seed, step - 1, next(model.parameters()).device)
        with self.autocast():
            found = taught(self.teaching, batch.inputs, batch.labels, "distill(batches=...)")
        self.optimizer.zero_grad(set_to_none=True)
        found.loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], MAX_NORM)
        self.optimizer.step()
        self.scheduler.step()
        return found.loss.detach(), {name: part.detach() for name, part in found.parts.items()}

    def _measure(self, step: int, total: Tensor, parts: dict[str, Tensor]) -> None:
        loss = float(total) / (step - (self.history[-1].step if self.history else 0))
        if not math.isfinite(loss):
            raise MuxwrapError(f"distill(): the loss is {loss} by step {step}; a smaller lr= helps")
        agreement = None if self.held_out is None else self.held_out.measure()
        self.history.append(DistillMeasurement(step, loss, agreement, {name: float(x) for name, x in parts.items()}))
        if self.held_out is not None and self.best_step() == step:
            self.best = copy.deepcopy(self.teaching.model.state_dict())
        self._save()

    def _stopped(self) -> bool:
        if self.patience is None or not self.history:
            return False
        since = [each.step for each in self.history].index(self.best_step())
        return len(self.history) - 1 - since >= self.patience

    # -- the file of an interrupted call ------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.file is None:
            return
        state = {
            "identity": self.identity,
            "model": self.teaching.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "history": [asdict(each) for each in self.history],
            "best": self.best,
        }
        part = self.file.with_name(f".{self.file.name}.part")
        torch.save(state, part)
        part.replace(self.file)  # whole or not at all, whenever this is interrupted

    def _resume(self) -> int:
        """Load what a file holds, and return how many steps were made."""
        if self.file is None or not self.file.exists():
            return 0
        model = self.teaching.model
        state = torch.load(self.file, map_location=next(model.parameters()).device, weights_only=True)
        other = [name for name, value in self.identity.items() if state["identity"].get(name) != value]
        if other:
            raise MuxwrapError(
                f"distill(resume={self.file.name!r}): the file was written by a call with {_named(state['identity'], other)}, "
                f"and this one has {_named(self.identity, other)}; give the same, or another file"
            )
        model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history = [DistillMeasurement(**each) for each in state["history"]]
        self.best = state["best"]
        return self.history[-1].step


def _rank(measurement: DistillMeasurement) -> float:
    assert measurement.agreement is not None
    return measurement.agreement


def _shown(last: DistillMeasurement) -> dict[str, str]:
    shown = {"loss": f"{last.loss:.3f}"}
    return shown if last.agreement is None else {**shown, "agreement": f"{last.agreement:.1%}"}


def _named(identity: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}={identity.get(name)!r}" for name in names)
