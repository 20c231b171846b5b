"""Several processes on one device, each training one cell after the other, until all is done or the time is up."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.studies.convert.cells import TEACHER, Cell, Task, file_name, measure
from benchmarks.studies.convert.pack import Packed
from benchmarks.studies.convert.plan import rates
from benchmarks.studies.convert.training import OutOfTimeError


@dataclass(frozen=True)
class Setting:
    """What all workers share.

    Args:
        packed: folder of the packed file.
        kept: folder in which teachers are kept.
        out: folder of the records, one file per cell.
        device: where to train.
        rows: rows per split at most, None for all.
        groupings: of the reported scores.
        deadline: ``time.time()`` at which everything ends.
        threads: of torch, per process.
        dtype: in which models are trained and scored.
        rates: learning rates that students try instead of those that earlier cells have chosen.
    """

    packed: Path
    kept: Path
    out: Path
    device: str
    rows: int | None
    groupings: int
    deadline: float
    threads: int
    dtype: torch.dtype
    rates: list[float] | None = None


def records_in(out: Path) -> list[dict[str, Any]]:
    """Return the records of a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]


def run(cells: Sequence[Cell], setting: Setting, jobs: int) -> None:
    """Measure what has no record yet."""
    setting.out.mkdir(parents=True, exist_ok=True)
    done = {record["cell"] for record in records_in(setting.out)}
    waiting = [cell for cell in cells if str(cell) not in done or not _ready(cell, setting)]
    context = multiprocessing.get_context("spawn")
    running: dict[Future[str], Cell] = {}
    with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(setting,)) as pool:
        while (waiting or running) and time.time() < setting.deadline:
            while len(running) < jobs and (cell := _next(waiting, setting)) is not None:
                waiting.remove(cell)
                running[pool.submit(_measure, cell)] = cell
            if not running:
                break  # only students of teachers that failed are left
            for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                _tell(running.pop(future), future)
        pool.shutdown(cancel_futures=True)  # those that run end by themselves at the deadline
    print(f"{len(waiting) + len(running)} of {len(cells)} cells are left", flush=True)


def _ready(cell: Cell, setting: Setting) -> bool:
    """Whether a cell's teacher is there; of a teacher, whether it is kept."""
    return (setting.kept / f"{cell.task}-{cell.seed}.pt").exists()


def _next(waiting: Sequence[Cell], setting: Setting) -> Cell | None:
    """Return the first cell that can be begun."""
    return next((cell for cell in waiting if cell.configuration == TEACHER or _ready(cell, setting)), None)


def _tell(cell: Cell, future: Future[str]) -> None:
    error = future.exception()
    if isinstance(error, OutOfTimeError):
        return
    if error is not None:
        traceback.print_exception(error, file=sys.stderr)
    print(f"{cell}: {'failed' if error else future.result()}", flush=True)


# -- in a worker ------------------------------------------------------------------------------------------------------

_here: dict[str, Any] = {}


def _start(setting: Setting) -> None:
    torch.set_num_threads(setting.threads)
    _here.update(setting=setting, packed=Packed(setting.packed, setting.rows), tasks={})


def _measure(cell: Cell) -> str:
    """Measure a cell, write its record, and return a line about it."""
    setting: Setting = _here["setting"]
    device = torch.device(setting.device)
    tasks: dict[str, Task] = _here["tasks"]
    if cell.task not in tasks:
        tasks[cell.task] = Task(_here["packed"], cell.task, device, setting.kept, setting.dtype)
    given = None if cell.configuration == TEACHER else setting.rates
    chosen = given or rates(cell, records_in(setting.out))
    record = measure(tasks[cell.task], cell, chosen, setting.groupings, setting.deadline)
    path = setting.out / f"{file_name(cell)}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(path)  # whole or not at all
    return f"{record['mean']:.2f} % (selection {max(record['selected']):.2f}, lr {record['lr']:g}), {record['seconds']:.0f} s"
