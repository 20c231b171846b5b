"""The steps of a warm-up: train, measure, and stop at the target."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from muxwrap._util.examples import in_mode
from muxwrap._util.progress import progress_bar
from muxwrap.errors import MuxwrapError
from muxwrap.training.accuracy import RetrievalAccuracy, count
from muxwrap.training.batches import as_batch
from muxwrap.training.objective import Retrieval
from muxwrap.training.stream import seed_step

MAX_NORM = 1.0  # of the gradient


@dataclass(frozen=True)
class Measurement:
    """How a warm-up stands after some steps.

    Args:
        step: steps made by then.
        loss: mean over the steps since the measurement before, in nats per token.
        accuracy: share of the drawn training tokens that were predicted right in these steps.
        held_out: retrieval accuracy on held-out sequences; None if there are none.
        per_index: the same per index.
    """

    step: int
    loss: float
    accuracy: float
    held_out: float | None = None
    per_index: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Loop:
    """What a warm-up trains, and how.

    Args:
        retrieval: the model, its head and their loss.
        optimizer: of its parameters.
        scheduler: of the optimizer.
        held_out: batches to measure on, or None.
        target: held-out accuracy at which to stop, or None.
        seed: of what the model draws.
    """

    retrieval: Retrieval
    optimizer: Optimizer
    scheduler: LRScheduler
    held_out: Iterable[Any] | None
    target: float | None
    seed: int

    def run(self, batches: Iterable[Any], steps: int, every: int, progress: bool) -> list[Measurement]:
        """Train, and return what was measured every so many steps and at the end."""
        history: list[Measurement] = []
        device = next(self.retrieval.parameters()).device
        sums = torch.zeros(3, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        with (
            in_mode(self.retrieval, training=True),
            progress_bar(steps, "retrieval warm-up", shown=progress) as advance,
        ):
            for step, value in zip(range(1, steps + 1), batches, strict=False):  # batches have no end
                sums += self._step(step, value)
                if step % every and step != steps:
                    advance()
                    continue
                history.append(self._measure(step, step - (history[-1].step if history else 0), sums))
                sums.zero_()
                advance(**_shown(history[-1]))
                if self._reached(history[-1]):
                    break
        return history

    def _step(self, step: int, value: Any) -> Tensor:
        """Make one step; return its loss, and how many tokens were predicted right and asked for."""
        table = self.retrieval.token_sites.table(self.retrieval.model)
        batch = as_batch(self.retrieval.model.backbone, value, len(table), table.device)
        seed_step(self.seed, step - 1, table.device)
        loss, correct, positions = self.retrieval(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.retrieval.parameters(), MAX_NORM)
        self.optimizer.step()
        self.scheduler.step()
        return torch.stack([loss.detach(), correct, positions])

    def _measure(self, step: int, since: int, sums: Tensor) -> Measurement:
        """Measure at a step; ``sums [3]`` are those of the results of the steps ``since`` the measurement before."""
        loss, correct, positions = sums.tolist()
        loss /= since
        if not math.isfinite(loss):
            raise MuxwrapError(f"warm_up(): the loss is {loss} by step {step}; a smaller lr= helps")
        accuracy = correct / max(positions, 1)
        if self.held_out is None:
            return Measurement(step, loss, accuracy)
        found = RetrievalAccuracy.of(count(self.retrieval, self.held_out))
        return Measurement(step, loss, accuracy, found.accuracy, found.per_index)

    def _reached(self, last: Measurement) -> bool:
        return self.target is not None and last.held_out is not None and last.held_out >= self.target


def _shown(last: Measurement) -> dict[str, str]:
    shown = {"loss": f"{last.loss:.3f}", "accuracy": f"{last.accuracy:.1%}"}
    return shown if last.held_out is None else {**shown, "held_out": f"{last.held_out:.1%}"}
