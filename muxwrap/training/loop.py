"""The steps of a warm-up: train, measure, save, and stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from muxwrap.errors import MuxwrapError
from muxwrap.training.accuracy import Retrieved, count
from muxwrap.training.batches import as_batch
from muxwrap.training.distributed import parallel, rank, summed, wait
from muxwrap.training.objective import Retrieval
from muxwrap.training.records import Record, Stop, progress_bar
from muxwrap.training.state import load_state, save_state
from muxwrap.training.stream import Stream


class Loop:
    """A warm-up under way.

    Args:
        retrieval: what is trained.
        optimizer: of its parameters.
        scheduler: of the optimizer.
        held_out: batches to measure on, or None.
        stop: when to end early.
        clip: largest norm of the gradient, or None.
        autocast: dtype of mixed precision, or None.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        held_out: Iterable[Any] | None,
        stop: Stop,
        clip: float | None,
        autocast: torch.dtype | None,
    ) -> None:
        self.retrieval = retrieval
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.held_out = held_out
        self.stop = stop
        self.clip = clip
        self.autocast = autocast
        self.history: list[Record] = []

    def run(self, stream: Stream, steps: int, every: int, checkpoint: str | Path | None, progress: bool) -> str:
        """Make the steps that are missing and return why it ended."""
        parts = {
            "model": self.retrieval.model,
            "head": self.retrieval.head,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }
        saved = None if checkpoint is None else load_state(checkpoint, parts)
        self.history = [] if saved is None else [Record.from_dict(each) for each in saved["history"]]
        start = self.history[-1].step if self.history else 0
        stopped = self.stop.reason(self.history)
        if stopped is not None or start >= steps:
            return stopped or "steps"
        stream.skip(start)
        engine = parallel(self.retrieval)
        totals = torch.zeros(
            3, dtype=torch.float64 if stream.device.type != "mps" else torch.float32, device=stream.device
        )
        with _training(self.retrieval), progress_bar(steps, start, progress) as tell:
            for step in range(start + 1, steps + 1):
                totals += self._step(engine, stream.take())
                due = step % every == 0 or step == steps
                if due:
                    self._record(step, totals)
                    totals.zero_()
                    if checkpoint is not None and rank() == 0:
                        save_state(checkpoint, parts, history=[asdict(record) for record in self.history])
                    wait()
                    stopped = self.stop.reason(self.history)
                tell(self.history[-1] if due else None)
                if stopped is not None:
                    return stopped
        return "steps"

    def _step(self, engine: nn.Module, value: Any) -> Tensor:
        """Make one step; return loss, tokens named right and tokens asked for."""
        table = self.retrieval.places.table(self.retrieval.model)
        batch = as_batch(self.retrieval.model.backbone, value, len(table), table.device)
        with self._precision():
            loss, right, asked = engine(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.retrieval.parameters(), self.clip)
        self.optimizer.step()
        self.scheduler.step()
        return torch.stack([loss.detach(), right, asked])

    def _record(self, step: int, totals: Tensor) -> None:
        """Add a record of the steps since the last one."""
        loss, right, asked = totals.tolist()
        loss /= step - (self.history[-1].step if self.history else 0)
        if not math.isfinite(loss):
            raise MuxwrapError(f"warm_up(): the loss is {loss} by step {step}; a smaller lr= helps")
        record = Record(step, loss, right / max(asked, 1))
        if self.held_out is not None:
            with self._precision():
                found = Retrieved.of(summed(count(self.retrieval, self.held_out)))
            record = Record(step, loss, record.accuracy, found.accuracy, found.per_index)
        self.history.append(record)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        device = next(self.retrieval.parameters()).device
        return torch.autocast(device.type, dtype=self.autocast)


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    """Train inside the block, and give every module its own mode back."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        module.train()
        yield
    finally:
        for each, mode in modes:
            each.training = mode
