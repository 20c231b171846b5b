"""The cells in order of importance, and which learning rates each still has to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.studies.convert.cells import TEACHER, Cell
from benchmarks.studies.convert.compared import core, more, others
from benchmarks.studies.convert.configurations import Configuration

OTHERS = ("sst2", "mnli")  # tasks that come after the others
FIRST = "snli"  # the learning rates that are chosen here are those of the other tasks
SHORT = ("snli", "qnli")  # tasks whose other seeds come before those of the longer ones


def plan(tasks: Sequence[str], seeds: Sequence[int], kinds: Sequence[str] | None, long: bool = False) -> list[Cell]:
    """Return all cells, the most telling ones first; a task's teacher comes before its students.

    Args:
        tasks: in order of importance.
        seeds: likewise.
        kinds: only configurations of these kinds; None takes all.
        long: only what takes longer, instead of everything else.
    """
    first, short = seeds[0], [task for task in tasks if task in SHORT]
    rounds = [(task, core, first) for task in tasks if task not in OTHERS]
    rounds += [(task, core, seed) for seed in seeds[1:] for task in short]
    rounds += [(task, core, seed) for seed in seeds[1:] for task in tasks if task not in (*SHORT, *OTHERS)]
    rounds += [(FIRST, others, first)] * (FIRST in tasks)
    rounds += [(task, core, seed) for seed in seeds for task in tasks]
    rounds += [(task, others, seed) for seed in seeds for task in tasks]
    rounds = [(task, more, seed) for seed in seeds for task in tasks] if long else rounds
    cells: dict[Cell, None] = {}
    for task, configurations, seed in rounds:
        cells[Cell(task, TEACHER, seed)] = None
        chosen = [each for each in configurations() if kinds is None or each.kind in kinds]
        for each in _one_of_each_kind_first(chosen):
            cells[Cell(task, each, seed)] = None
    return list(cells)


def _one_of_each_kind_first(configurations: Sequence[Configuration]) -> Iterator[Configuration]:
    """Yield the first of each kind, which chooses the kind's learning rate, and then the rest."""
    first = {each.kind: each for each in reversed(configurations)}
    yield from (each for each in configurations if first[each.kind] is each)
    yield from (each for each in configurations if first[each.kind] is not each)


def rates(cell: Cell, records: Sequence[dict[str, object]]) -> list[float] | None:
    """Return the learning rate that an earlier cell of the kind has chosen, None where all are to be tried.

    It is that of the same task, or else that of the first task. Teachers choose for every task.
    """
    kind = "teacher" if cell.configuration == TEACHER else cell.configuration.kind
    for task in (cell.task,) if kind == "teacher" else (cell.task, FIRST):
        chosen = [
            float(record["lr"])  # type: ignore[arg-type]
            for record in records
            if (record["dataset"], record["kind"]) == (task, kind) and len(record["tried"]) > 1  # type: ignore[arg-type]
        ]
        if chosen:
            return chosen[:1]
    return None
