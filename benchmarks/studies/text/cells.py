"""The cells of the study: tasks x configurations x n x warm-ups, and the settings that a result depends on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.studies.common.models import APART
from benchmarks.studies.text.models import BARE, NARROW

WARM_UP_LR = 1e-3  # too high for 12 layers of 768


class Cell(NamedTuple):
    task: str
    configuration: str
    n: int
    warm_up: int  # steps

    def __str__(self) -> str:
        warmed = f" warm-up={self.warm_up}" if self.warm_up else ""
        return f"{self.task} {self.configuration} n={self.n}{warmed}"


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield bare models once, the others for every n, and multiplexed ones for every warm-up too."""
    for task in args.only:
        for name in args.configurations:
            if name == "B1":
                yield Cell(task, name, 1, 0)
            elif name == "B2":
                yield from (Cell(task, name, 1, steps) for steps in args.warm_up if steps)
            else:
                warm_ups = [0] if name in NARROW else args.warm_up
                yield from (Cell(task, name, n, steps) for n in args.n if n > 1 for steps in warm_ups)


def settings(args: argparse.Namespace, cell: Cell) -> dict[str, Any]:
    """Return what a cell's result depends on besides the cell itself; they are fields of its record."""
    names = ["layers", "dim", "heads", "vocab", "epochs", "limit"] + ["warm_up_text"] * bool(cell.warm_up)
    names += ["mixtures"] * (cell.configuration not in (*BARE, *NARROW))
    names += ["crosstalk"] * (cell.configuration == APART)
    names += ["warm_up_lr"] * bool(cell.warm_up and args.warm_up_lr != WARM_UP_LR) + ["tf32"] * args.tf32
    names += ["teachers"] * bool(args.teachers)
    return {name: getattr(args, name) for name in names}


def group(args: argparse.Namespace, cell: Cell) -> str:
    """Return what the records of a cell share over all seeds.

    The learning rates belong to it as they were given, since the first seed chooses among them.
    """
    fields = " ".join(f"{key}={value}" for key, value in settings(args, cell).items())
    return f"{cell} | {fields} lr={','.join(f'{lr:g}' for lr in args.lr)}"
