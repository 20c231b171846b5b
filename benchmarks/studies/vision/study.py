"""Multiplexed image classifiers against bare ones, one cell at a time.

    python -m benchmarks.studies.vision.study --data FOLDER --tables lenet strategies --seeds 0 1 2

FOLDER holds mnist, fashion-mnist and cifar10-subset (see data.py); tables.py says what every table is made of. A cell
that is already in the results is not measured again, so that the command can be interrupted and repeated, and several
processes can work on different tables at once. report.py draws what was found, speed.py measures how fast it is.

Networks are trained on the training images less those held out, at most 5,000. What is chosen between recipes is chosen
on these; every test image is scored, in five random groupings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.results import device_name, merge_records, read_records
from benchmarks.studies.vision.data import Data, load
from benchmarks.studies.vision.models import Backbone, bare, make, operations
from benchmarks.studies.vision.tables import TABLES, Cell
from benchmarks.studies.vision.teachers import teacher
from benchmarks.studies.vision.training import SELECTION, Recipe, evaluate, fit


def measure(
    cell: Cell, seed: int, data: Data, args: argparse.Namespace, tell: Callable[[str], object]
) -> dict[str, Any]:
    """Train one cell and score it on the held-out images and on the test images."""
    start = time.perf_counter()
    backbone = Backbone.of(cell, data.channels, data.side)
    model = make(backbone, cell.configuration, cell.n, cell.demux, seed)
    ratio = operations(bare(backbone._replace(width=1)), backbone) / operations(model, backbone)
    taught = teacher(cell, data, args.kept, args.device, tell) if cell.taught else None
    steps = fit(model.to(args.device), data, Recipe.of(cell, seed), tell, taught)
    multiplexed = hasattr(model, "n")
    return {
        **cell._asdict(),
        "seed": seed,
        "seeds": 1,
        "split": "test",
        "strategy": model.strategy.name if multiplexed else None,
        "demux": model.demuxer.name if multiplexed else None,
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


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, seed by seed, so that a first table is there early."""
    data: dict[tuple[str, int], Data] = {}
    cells = dict.fromkeys(cell for name in args.tables for cell in TABLES[name]() if args.only in cell.label)
    changed = {} if args.epochs is None else {"epochs": args.epochs}
    wanted = [(seed, cell._replace(**changed)) for seed in args.seeds for cell in cells]
    for seed, cell in (bar := tqdm(wanted, unit="cell", disable=None)):
        group = f"{cell}{f' limit={args.limit}' if args.limit else ''}"
        key = f"{group} seed={seed}"
        if any(record["cell"] == key for record in read_records(args.results)):
            continue
        bar.set_description(f"{cell.label} seed={seed}")
        source = cell.dataset, cell.shift
        if source not in data:
            data[source] = load(cell.dataset, args.data, cell.shift, args.limit).to(args.device)
        record = {"cell": key, "group": group, **measure(cell, seed, data[source], args, bar.set_postfix_str)}
        merge_records(args.results, "vision", [record], key="cell", command=command(args))
        spread = f" ± {record['std']:.2f}" if record["std"] is not None else ""
        indices = f"{min(record['per_index']):.1f} … {max(record['per_index']):.1f}"
        tqdm.write(
            f"{cell.label} seed={seed}: {record['mean']:.2f}{spread} % ({indices}; held-out {record['selected']:.2f}), "
            f"operations 1/{record['operations_ratio']:.1f}, {record['steps']:,} steps, {record['seconds']:.0f} s"
        )


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    said = [f"--tables {' '.join(args.tables)}", f"--seeds {' '.join(map(str, args.seeds))}"]
    said += [f"--{key} {getattr(args, key)}" for key in ("only", "epochs", "limit") if getattr(args, key)]
    return " ".join(["python -m benchmarks.studies.vision.study --data FOLDER", *said])


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a data set")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--only", default="", help="cells whose label has this in it, such as 'n=4'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="other than the tables say, for a trial")
    parser.add_argument("--limit", type=int, help="rows of every part at most, for a trial")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--kept", type=Path, default=Path("runs/vision"), help="folder for the networks that teach")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--results", type=Path, default=Path("docs/results/vision.json"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    run(args)


if __name__ == "__main__":
    main()
