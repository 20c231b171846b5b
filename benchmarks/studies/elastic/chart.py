"""What the trained transformer of the study can become: :func:`muxwrap.frontier`, once, with every rival.

    python -m benchmarks.studies.elastic.chart --data FOLDER [--kept runs/elastic] [--folder runs/frontier]

The transformer is the one that :mod:`benchmarks.studies.elastic.study` has trained and kept. Interrupted, it goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import muxwrap
from benchmarks.results import ROOT, write
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.elastic.models import transformer
from benchmarks.studies.vision.data import Split, load

BATCH, RATE = 128, 1e-3


def batches(split: Split) -> list[Any]:
    return list(zip(split.images.split(500), split.labels.split(500), strict=True))


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="Fashion-MNIST", results="frontier.json")
    made.add_argument("--kept", type=Path, default=Path("runs/elastic"), help="folder of the trained transformer")
    made.add_argument("--folder", type=Path, default=Path("runs/frontier"), help="where every model is kept")
    made.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the picture")
    made.add_argument("--steps", type=int, default=430, help="of every distillation; 430 see every training image once")
    made.add_argument("--rounds", type=int, default=5, help="of timing")
    made.add_argument("--limit", type=int, help="rows of every split at most, for a trial")
    args = made.parse_args(argv)
    set_threads(args)
    data = load("fashion-mnist", args.data, 0, args.limit)
    path = args.kept / "teacher-0.pt"
    if not path.exists():
        made.error(f"{path} is not there; python -m benchmarks.studies.elastic trains it")
    model = transformer(data.side)
    model.load_state_dict(torch.load(path))
    chart = muxwrap.frontier(
        model.eval(),
        DataLoader(TensorDataset(*data.train), BATCH, shuffle=True, drop_last=True),
        batches(data.select),
        test=batches(data.test),
        n=(2, 4, 8),
        steps=args.steps,
        lr=RATE,
        dtype="float32",
        folder=args.folder,
        timing={"rounds": args.rounds},
    )
    print(chart)
    said = [chart.sentence(points) for points in (1.0, 2.0, 5.0)]
    records = [*chart.records(key="point"), *({"key": "sentence", "said": each} for each in said)]
    command = f"python -m benchmarks.studies.elastic.chart --data FOLDER --steps {args.steps}"
    write(args.results, "frontier", [{**each, "device": "cpu"} for each in records], command)
    chart.plot().figure.savefig(args.images / "frontier.png", dpi=120)


if __name__ == "__main__":
    main()
