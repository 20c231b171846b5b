"""How close multiplexing comes to its bound: every figure of the throughput page, ratios inside one run.

    python -m benchmarks.speed.throughput [--only NAME ...] [--rounds 5] [--data FOLDER]
    python -m benchmarks.speed.throughput --only sequence arithmetic_bfloat16  # float32 beside bfloat16

Writes docs/results/throughput.json and two pictures; cells of studies that are not run are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.results import merge_records
from benchmarks.speed.allocator import keep_memory
from benchmarks.speed.arithmetic import ARITHMETIC
from benchmarks.speed.bound import Study, prefix, sequence, smaller, strategies, tokens, vision
from benchmarks.speed.growth import batch, growth, memory, share, training
from benchmarks.speed.mnli import mnli
from benchmarks.speed.plot import draw

_ALL = [
    sequence,
    strategies,
    prefix,
    tokens,
    smaller,
    vision,
    memory,
    share,
    training,
    *ARITHMETIC,
    growth,
    batch,
    mnli,
]
STUDIES: dict[str, Study] = {study.__name__: study for study in _ALL}
COMMAND = "python -m benchmarks.speed.throughput --data FOLDER"  # which makes all of the file; a part replaces its own studies


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=STUDIES, default=list(STUDIES), metavar="STUDY", help=", ".join(STUDIES)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="folder with MNLI and BERT's vocabulary, for the study mnli")
    parser.add_argument("--results", type=Path, default=Path("docs/results/throughput.json"))
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    for name in (bar := tqdm(args.only)):
        cells = STUDIES[name](args, bar.set_postfix_str)
        if cells:
            merge_records(args.results, "throughput", cells, key="study", command=COMMAND)
        for cell in cells:
            tqdm.write(_line(cell))
    draw(args.results, args.results.parent.parent / "images")


def _line(cell: dict[str, Any]) -> str:
    speed_up = cell.get("ratio_to_bare")
    value = f"{speed_up:7.2f}x" if speed_up else f"share {cell['share']:.3f}"
    return f"{cell['study']:19} {cell['backbone']:22} {cell['name']:24} {cell.get('dtype', ''):9} {value}"


if __name__ == "__main__":
    keep_memory()
    main()
