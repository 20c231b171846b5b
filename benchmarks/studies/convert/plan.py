"""The cells in order of importance, and which learning rates each still has to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.studies.convert.cells import TEACHER, Cell
from benchmarks.studies.convert.configurations import Configuration, core, others

FIRST = "snli"  # every configuration is measured here; its learning rate there is that of the other tasks


def plan(tasks: Sequence[str], seeds: Sequence[int], kinds: Sequence[str] | None) -> list[Cell]:
    """Return all cells, the most telling ones first; a task's teacher comes before its students.

    Args:
        tasks: in order of importance.
        seeds: likewise.
        kinds: only configurations of these kinds; None takes all.
    """
    rounds: list[tuple[str, Iterator[Configuration], int]] = []
    for seed in seeds:
        rounds += [(task, core(), seed) for task in tasks]
        if seed == seeds[0] and FIRST in tasks:
            rounds.append((FIRST, others(), seed))
    rounds += [(task, others(), seed) for seed in seeds for task in tasks]
    cells: dict[Cell, None] = {}
    for task, configurations, seed in rounds:
        cells[Cell(task, TEACHER, seed)] = None
        for each in configurations:
            if kinds is None or each.kind in kinds:
                cells[Cell(task, each, seed)] = None
    return list(cells)


def rates(cell: Cell, records: Sequence[dict[str, object]]) -> list[float] | None:
    """Return the learning rate that an earlier cell of the configuration has chosen, None where all are to be tried.

    It is that of the same task, or else that of the first task. Teachers choose for every task.
    """
    name = "teacher" if cell.configuration == TEACHER else str(cell.configuration)
    tasks = (cell.task,) if name == "teacher" else (cell.task, FIRST)
    for task in tasks:
        for record in records:
            if (record["dataset"], record["configuration"]) == (task, name):
                return [float(record["lr"])]  # type: ignore[arg-type]
    return None
