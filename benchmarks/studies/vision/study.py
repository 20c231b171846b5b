"""Multiplexed image classifiers against bare ones, one cell at a time.

    python -m benchmarks.studies.vision.study --data FOLDER --tables lenet strategies --seeds 0 1 2

FOLDER holds mnist, fashion-mnist and cifar10-subset (see data.py); tables.py holds the cells of every table. A cell
that is already in the results is not measured again, so that the command can be interrupted and repeated, and several
processes can work on different tables at once. report.py draws the results, speed.py measures the speed.

Networks are trained on the training images without those held out, at most 5,000, which choose between recipes; every
test image is scored, in five random groupings.
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path

import muxwrap
from benchmarks.results import device_name
from benchmarks.studies.common.cells import Job, Progress, Record, Study
from benchmarks.studies.common.command_line import joined, parser, set_threads
from benchmarks.studies.common.groupings import SELECTION
from benchmarks.studies.common.models import strategy_fields
from benchmarks.studies.vision.data import Data, load
from benchmarks.studies.vision.models import Backbone, bare, make, operations
from benchmarks.studies.vision.tables import TABLES, Cell
from benchmarks.studies.vision.teachers import teacher
from benchmarks.studies.vision.training import evaluate, fit, recipe


def measure(cell: Cell, seed: int, data: Data, args: argparse.Namespace, progress: Progress) -> Record:
    """Train one cell and score it on the held-out images and on the test images."""
    start = time.perf_counter()
    backbone = Backbone.of(cell, data.channels, data.side)
    model = make(backbone, cell.configuration, cell.n, cell.demux, seed)
    ratio = operations(bare(backbone._replace(width=1)), backbone) / operations(model, backbone)
    taught = teacher(cell, data, args.cache, args.device, progress) if cell.taught else None
    steps = fit(model.to(args.device), data, recipe(cell, seed), progress, taught)
    multiplexed = isinstance(model, muxwrap.Multiplex)
    return {
        **cell._asdict(),
        "seed": seed,
        "seeds": 1,
        "split": "test",
        **strategy_fields(model),
        "metric": "accuracy",
        **evaluate(model, data.test),
        "selected": evaluate(model, data.select, SELECTION)["mean"],
        "train_rows": len(data.train.labels),
        "device": device_name(args.device),
        "steps": steps,
        "parameters": sum(p.numel() for p in (model.backbone if multiplexed else model).parameters()),
        "added_parameters": model.added_parameters() if multiplexed else 0,
        "instances_per_second": None,
        "ratio_to_bare": None,
        "operations_ratio": ratio,
        "seconds": round(time.perf_counter() - start, 1),
    }


def summary(record: Record) -> str:
    """Return what is printed of a record."""
    spread = f" ± {record['std']:.2f}" if record["std"] is not None else ""
    indices = f"{min(record['per_index']):.1f} … {max(record['per_index']):.1f}"
    return (
        f"{record['mean']:.2f}{spread} % ({indices}; held-out {record['selected']:.2f}), "
        f"operations 1/{record['operations_ratio']:.1f}, {record['steps']:,} steps"
    )


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, seed by seed, so that a first table is there early."""

    @cache
    def data(dataset: str, shift: int) -> Data:
        return load(dataset, args.data, shift, args.limit).to(args.device)

    def job(cell: Cell, seed: int) -> Job:
        def measured(progress: Progress) -> Record:
            return {"group": group, **measure(cell, seed, data(cell.dataset, cell.shift), args, progress)}

        group = f"{cell}{f' limit={args.limit}' if args.limit else ''}"
        return Job(f"{group} seed={seed}", f"{cell.label} seed={seed}", measured)

    cells = dict.fromkeys(cell for name in args.tables for cell in TABLES[name]() if args.only in cell.label)
    changed = {} if args.epochs is None else {"epochs": args.epochs}
    jobs = [job(cell._replace(**changed), seed) for seed in args.seeds for cell in cells]
    Study(args.results, "vision", command(args), summary).run(jobs)


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    options = [f"--tables {joined(args.tables)}", f"--seeds {joined(args.seeds)}"]
    options += [f"--{key} {getattr(args, key)}" for key in ("only", "epochs", "limit") if getattr(args, key)]
    return " ".join(["python -m benchmarks.studies.vision.study --data FOLDER", *options])


def parse(argv: list[str] | None) -> argparse.Namespace:
    made = parser(__doc__, data="one folder per data set", results="vision.json", device=True)
    made.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=f"of {joined([*TABLES])}"
    )
    made.add_argument("--only", default="", metavar="TEXT", help="cells whose label contains this, such as 'n=4'")
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="every cell is trained with each")
    made.add_argument("--epochs", type=int, help="instead of the table's, for a trial")
    made.add_argument("--limit", type=int, help="rows of every split at most, for a trial")
    made.add_argument("--cache", type=Path, default=Path("runs/vision"), help="folder for the networks that teach")
    return made.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    set_threads(args)
    run(args)


if __name__ == "__main__":
    main()
