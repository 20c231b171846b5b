"""How fast the study's networks are, all those of one backbone in one run. To be run on a machine that does nothing else.

    python -m benchmarks.studies.vision.speed --tables resnet vit

Speed does not depend on training, so the networks are untrained and the images are noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.results import merge_records
from benchmarks.speed.allocator import keep_memory
from benchmarks.studies.vision.models import Backbone, make
from benchmarks.studies.vision.tables import TABLES, Cell
from muxwrap.throughput import Configuration, compare

SHAPES = {"mnist": (1, 20, 20), "fashion-mnist": (1, 20, 20), "cifar10-subset": (3, 32, 32)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a network in a round")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--results", type=Path, default=Path("docs/results/vision_speed.json"))
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    for backbone in dict.fromkeys(cell.backbone for name in args.tables for cell in TABLES[name]()):
        found = (cell for name in args.tables for cell in TABLES[name]() if cell.backbone == backbone)
        cells = list({cell.network: cell for cell in found}.values())
        # The whole bare network first: the others are measured against it.
        cells.sort(key=lambda cell: (cell.configuration != "bare", cell.width != 1))
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
        said = f"python -m benchmarks.studies.vision.speed --tables {' '.join(args.tables)}"
        merge_records(args.results, "vision_speed", records, key="cell", command=said)
        print(report)


def _configuration(cell: Cell) -> Configuration:
    channels, side, _ = SHAPES[cell.dataset]
    model = make(Backbone.of(cell, channels, side), cell.configuration, cell.n, cell.demux, 0)
    return Configuration(cell.label.partition(" ")[2], model.eval(), torch.rand(1, channels, side, side))


if __name__ == "__main__":
    keep_memory()
    main()
