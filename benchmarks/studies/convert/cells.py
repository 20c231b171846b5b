"""One measured cell: a configuration, a task and a seed, trained with its learning rates, and its record."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.results import device_name
from benchmarks.studies.convert.backbone import Encoder
from benchmarks.studies.convert.budget import EPOCHS, LONG, RATES, TEACHER_EPOCHS, TEACHER_RATES
from benchmarks.studies.convert.configurations import ELASTIC, Configuration
from benchmarks.studies.convert.pack import SPLITS, Packed
from benchmarks.studies.convert.rows import Rows
from benchmarks.studies.convert.scores import scores
from benchmarks.studies.convert.training import BATCH, How, Taught, Trained, answers, fit, keep

TEACHER = Configuration("plain")
MEASURED = 512  # rows on which a start that depends on data is measured


class Cell(NamedTuple):
    task: str
    configuration: Configuration
    seed: int
    dtype: str = ""  # other than the device's own

    def __str__(self) -> str:
        return f"{self.task} | {self.configuration} | seed {self.seed}" + (f" | {self.dtype}" if self.dtype else "")


def file_name(cell: Cell) -> str:
    """Return a cell's name as files have it."""
    return str(cell).replace(" | ", "__").replace(", ", "_").replace(" ", "-")


class Task:
    """A task's rows on the device, and a seed's teacher.

    Args:
        packed: the packed file.
        name: of the task.
        device: where to train.
        kept: folder in which teachers are kept.
        dtype: in which models are trained and scored.
    """

    def __init__(
        self, packed: Packed, name: str, device: torch.device, kept: Path, dtype: torch.dtype = torch.float32
    ) -> None:
        self.packed, self.name, self.device, self.kept, self.dtype = packed, name, device, kept, dtype
        self._taught: dict[int, Taught] = {}

    @cached_property
    def splits(self) -> dict[str, Rows]:
        return {split: Rows(self.packed, self.name, split, self.device, self.dtype) for split in SPLITS}

    def encoder(self) -> Encoder:
        """Return the backbone with its published weights and a new classifier."""
        model = Encoder(self.packed.sizes(), self.packed.classes(self.name))
        missing = model.load_state_dict(self.packed.weights(), strict=False).missing_keys
        assert all(name.startswith("head.classifier.") for name in missing), missing
        return model.to(self.device)

    def path(self, seed: int) -> Path:
        return self.kept / f"{self.name}-{seed}.pt"

    def teacher(self, seed: int) -> Encoder:
        """Return the trained teacher of a seed."""
        model = self.encoder()
        model.load_state_dict(torch.load(self.path(seed), map_location=self.device))
        return model.eval()

    def taught(self, seed: int) -> Taught:
        """Return the teacher's answers to the training rows."""
        if seed not in self._taught:
            self._taught = {seed: answers(self.teacher(seed), self.splits["train"])}
        return self._taught[seed]


def measure(task: Task, cell: Cell, rates: list[float] | None, groupings: int, deadline: float) -> dict[str, Any]:
    """Train and score a cell, and return its record; a teacher is also kept.

    Args:
        task: the cell's.
        cell: what to measure.
        rates: learning rates to choose among by the selection split; None tries all.
        groupings: of the reported score.
        deadline: ``time.time()`` at which to give up.
    """
    start = time.perf_counter()
    teaching = cell.configuration == TEACHER
    config = cell.configuration
    epochs = LONG if config.long else (TEACHER_EPOCHS if teaching else EPOCHS)[cell.task]
    tried: dict[float, Trained] = {}
    model: nn.Module = nn.Identity()
    for lr in rates or (TEACHER_RATES if teaching else RATES):
        model = _made(task, cell)
        taught = None if teaching else task.taught(cell.seed)
        begun = task.kept / f"{file_name(cell)}-{lr:g}.pt" if config.long else None
        how = How(epochs, lr, cell.seed, deadline, config.kind in ELASTIC, begun)
        tried[lr] = fit(model, task.splits["train"], task.splits["select"], taught, how)
    lr, best = max(tried.items(), key=lambda each: max(each[1].selected))
    model.load_state_dict(best.state)
    if teaching:
        keep(task.path(cell.seed), best.state)
    return {
        "cell": str(cell),
        "backbone": "MiniLM 6x384",
        "dataset": cell.task,
        "split": "report",
        "configuration": "teacher" if teaching else str(config),
        "kind": "teacher" if teaching else config.kind,
        **{name: getattr(config, name) for name in ("layers", "after", "n")},
        "seed": cell.seed,
        **scores(model, task.splits["report"], groupings, config.kind in ELASTIC),
        "selected": [round(each, 2) for each in best.selected],
        "lr": lr,
        "tried": {f"{each:g}": round(max(trained.selected), 2) for each, trained in tried.items()},
        "epochs": epochs,
        "batch": BATCH,
        "train_rows": len(task.splits["train"]),
        "device": device_name(task.device),
        "dtype": str(task.dtype).removeprefix("torch."),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _made(task: Task, cell: Cell) -> nn.Module:
    torch.manual_seed(cell.seed)
    if cell.configuration == TEACHER:
        return task.encoder()

    def batches() -> list[Any]:
        train = task.splits["train"]
        rows = torch.arange(min(MEASURED, len(train)), device=task.device)
        return [train.inputs(rows, int(train.lengths[: len(rows)].max()))]

    return cell.configuration.make(task.teacher(cell.seed), batches, cell.seed)
