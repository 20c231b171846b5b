"""The speed of the study's networks, all of one backbone in one run. Run it on a machine that does nothing else.

    python -m benchmarks.studies.vision.speed --tables resnet vit

Speed does not depend on training, so the networks are untrained and the images are noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.results import ROOT, merge_records
from benchmarks.speed.allocator import keep_memory
from benchmarks.studies.common.command_line import joined, set_threads
from benchmarks.studies.vision.models import Backbone, make
from benchmarks.studies.vision.tables import TABLES, Cell
from muxwrap.throughput import Configuration, compare

SHAPES = {"mnist": (1, 20, 20), "fashion-mnist": (1, 20, 20), "cifar10-subset": (3, 32, 32)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=f"of {joined([*TABLES])}"
    )
    parser.add_argument("--rounds", type=int, default=9, help="the median of so many counts")
    parser.add_argument("--seconds", type=float, default=0.3, help="per network and round")
    parser.add_argument("--threads", type=int, help="threads of torch; torch decides without it")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "docs/results/vision_speed.json", help="the results file"
    )
    args = parser.parse_args(argv)
    set_threads(args)
    command = f"python -m benchmarks.studies.vision.speed --tables {joined(args.tables)}"
    for backbone, cells in networks(args.tables).items():
        with tqdm(desc=backbone, bar_format="{desc}", disable=None) as bar:
            report = compare(
                [_configuration(cell) for cell in cells],
                mixtures=(16, 32, 64, 128, 256),
                rounds=args.rounds,
                seconds=args.seconds,
                progress=bar.set_description,
            )
        records = [
            {"cell": cell.network, "backbone": backbone, "threads": torch.get_num_threads(), **record}
            for cell, record in zip(cells, report.records(), strict=True)
        ]
        merge_records(args.results, "vision_speed", records, key="cell", command=command)
        print(report)


def networks(tables: list[str]) -> dict[str, list[Cell]]:
    """Return one cell per network of the tables, by backbone; the whole bare network, which is the measure, comes first."""
    cells = {cell.network: cell for name in tables for cell in TABLES[name]()}
    found: dict[str, list[Cell]] = {}
    for cell in cells.values():
        found.setdefault(cell.backbone, []).append(cell)
    return {
        b: sorted(each, key=lambda cell: (cell.configuration != "bare", cell.width != 1)) for b, each in found.items()
    }


def _configuration(cell: Cell) -> Configuration:
    channels, side, _ = SHAPES[cell.dataset]
    model = make(Backbone.of(cell, channels, side), cell.configuration, cell.n, cell.demux, 0)
    return Configuration(cell.label.partition(" ")[2], model.eval(), torch.rand(1, channels, side, side))


if __name__ == "__main__":
    keep_memory()
    main()
