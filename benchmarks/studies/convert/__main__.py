"""A trained MiniLM converted: multiplexed models beside the plain ones of the same work, distilled with the same budget.

    python -m benchmarks.studies.convert prepare --data FOLDER --weights model.safetensors --out runs/convert
    python -m benchmarks.studies.convert run --packed runs/convert --device cuda --jobs 8 --minutes 8 --out runs/convert/out
    python -m benchmarks.studies.convert speed --packed runs/convert --device cpu --out runs/convert/out
    python -m benchmarks.studies.convert work --packed runs/convert --device cpu --out runs/convert/out
    python -m benchmarks.studies.convert collect --out runs/convert/out

``prepare`` packs data and weights into one file, and the others need nothing else. ``run`` trains what has no record yet,
in order of importance, and stops when the time is up; it can be repeated. ``collect`` writes the results file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.studies.convert.budget import EPOCHS
from benchmarks.studies.convert.cells import TEACHER, Task
from benchmarks.studies.convert.compared import core, more, others
from benchmarks.studies.convert.configurations import KINDS, Configuration
from benchmarks.studies.convert.pack import Packed
from benchmarks.studies.convert.plan import plan
from benchmarks.studies.convert.report import report
from benchmarks.studies.convert.speed import ROUNDS, speeds
from benchmarks.studies.convert.work import works
from benchmarks.studies.convert.workers import Setting, records_in, run


def parse(argv: list[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = made.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="pack data and weights")
    prepare.add_argument("--data", type=Path, required=True, help="folder with the tasks and the vocabulary")
    prepare.add_argument("--weights", type=Path, required=True, help="model.safetensors of MiniLM-L6-H384")
    prepare.add_argument("--out", type=Path, required=True)
    prepare.add_argument("--limit", type=int, help="rows per split at most")
    for name, text in (
        ("run", "train and score"),
        ("speed", "measure speed and work"),
        ("work", "count operations alone"),
        ("collect", "write the results"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--out", type=Path, required=True, help="folder of the records")
        command.add_argument("--tasks", nargs="+", choices=EPOCHS, default=list(EPOCHS))
        if name == "collect":
            continue
        command.add_argument("--packed", type=Path, required=True, help="folder that prepare has written")
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--limit", type=int, help="rows per split at most")
        command.add_argument("--kinds", nargs="+", choices=KINDS, help="only configurations of these kinds")
        command.add_argument("--threads", type=int, default=1, help="threads of torch, per process")
        command.add_argument(
            "--only", nargs="+", metavar="MODEL", help="only models of these names, as the tables have them"
        )
    commands.choices["speed"].add_argument("--rounds", type=int, default=ROUNDS, help="in each of which all models run")
    run_ = commands.choices["run"]
    run_.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 where there is an accelerator")
    run_.add_argument("--jobs", type=int, default=8, help="processes")
    run_.add_argument("--minutes", type=float, default=8, help="until everything ends")
    run_.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run_.add_argument("--long", action="store_true", help="one model for several n, and features with ten epochs")
    run_.add_argument("--rates", type=float, nargs="+", help="learning rates that students try, instead of choosing")
    run_.add_argument("--groupings", type=int, default=5)
    run_.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "muxwrap-convert", help="for teachers")
    return made.parse_args(argv)


def train(args: argparse.Namespace) -> None:
    """Train and score what is missing, and print the tables."""
    deadline = time.time() + 60 * args.minutes
    own = "float32" if args.device == "cpu" else "bfloat16"
    setting = Setting(
        args.packed,
        args.kept,
        args.out / "records",
        args.device,
        args.limit,
        args.groupings,
        deadline,
        args.threads,
        getattr(torch, args.dtype or own),
        args.rates,
    )
    dtype = "" if args.dtype in (None, own) else args.dtype
    cells = [cell._replace(dtype=dtype) for cell in plan(args.tasks, args.seeds, args.kinds, args.long)]
    wanted = {str(TEACHER), *(args.only or map(str, (cell.configuration for cell in cells)))}
    run([cell for cell in cells if str(cell.configuration) in wanted], setting, args.jobs)


def time_all(args: argparse.Namespace) -> None:
    """Measure speed and work of every configuration, beside the teacher in the same run."""
    _write(args, f"speed-{args.device}", lambda task, wanted: speeds(task, wanted, args.rounds))


def count_all(args: argparse.Namespace) -> None:
    """Count the operations of every configuration."""
    _write(args, "speed-work", works)


def _write(args: argparse.Namespace, name: str, measure: Callable[[Task, list[Configuration]], list[Any]]) -> None:
    """Write what is measured of every task, and take what an earlier run has written of others."""
    torch.set_num_threads(args.threads)
    packed, path = Packed(args.packed, args.limit), args.out / f"{name}.json"
    found = {r["cell"]: r for r in (json.loads(path.read_text(encoding="utf-8")) if path.exists() else [])}
    args.out.mkdir(parents=True, exist_ok=True)
    for task in args.tasks:
        wanted = _wanted(args, task)
        if not wanted:
            continue
        here = Task(packed, task, torch.device(args.device), args.packed)
        found |= {record["cell"]: record for record in measure(here, wanted)}
        path.write_text(json.dumps(list(found.values()), indent=1) + "\n", encoding="utf-8")
        print(f"{task}: {len(wanted)} models", flush=True)


def _wanted(args: argparse.Namespace, task: str) -> list[Configuration]:
    """Return the configurations that have been trained on a task; all where nothing has been trained."""
    named = [each for each in (*core(), *others(), *more()) if args.kinds is None or each.kind in args.kinds]
    named = [each for each in named if args.only is None or str(each) in args.only]
    records = records_in(args.out / "records")
    trained = {r["configuration"] for r in records if r["dataset"] == task}
    return [each for each in named if str(each) in trained] if records else named


def read(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the records and the speeds of a folder; of several devices that of the accelerator is shown."""
    speeds_ = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(args.out.glob("speed-*.json"))]
    return [*records_in(args.out / "records"), *(record for each in speeds_ for record in each)]


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.command == "prepare":
        from benchmarks.studies.convert.prepare import pack  # needs tokenizers

        path = pack(args.data, args.weights, args.out, args.limit)
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
        return
    if args.command == "collect":
        from benchmarks.results import ROOT, merge_records

        command = "python -m benchmarks.studies.convert run --packed runs/convert --out runs/convert/out"
        merge_records(ROOT / "docs" / "results" / "convert.json", "convert", read(args), key="cell", command=command)
    else:
        {"run": train, "speed": time_all, "work": count_all}[args.command](args)
    print(report(read(args), args.tasks))


if __name__ == "__main__":
    main()
