"""What company tells of a row, and what it does to it, per strategy and n.

    python -m benchmarks.studies.company --data FOLDER     # MNIST: its four idx files
    python -m benchmarks.studies.company                   # scikit-learn's handwritten digits

The demo's network is trained with each strategy. On the test images then: the accuracy; what linear probes read of a row's
companions in its separated state, and of its index; the accuracy beside the worst of 16 draws of companions, and beside
companions that gradients have made for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import muxwrap
from benchmarks import results
from muxwrap import Multiplex
from muxwrap._demo.images import Split, digits, mnist_format
from muxwrap._demo.network import Net
from muxwrap._demo.run import train
from muxwrap.evaluation import adversarial_company, company_readable, index_readable

STRATEGIES = ("layout", "slots", "orthogonal", "hadamard", "identity")
PERCENT = ("mean", "std", "own", "neighbour", "chance", "index", "chance_of_index", "usual", "chosen", "crafted")
SHOWN = ("name", "mean", "neighbour", "usual", "chosen", "crafted")


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Train and measure every cell, and write each as it is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with the idx files of MNIST or of a data set like it")
    parser.add_argument("--n", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--epochs", type=int, help="100 for the digits, 3 for a folder")
    parser.add_argument("--limit", type=int, help="use this many training and test images at most")
    parser.add_argument("--attacked", type=int, default=500, help="test images whose companions are chosen and made")
    parser.add_argument("--width", type=int, default=64, help="channels of the network")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    data = (mnist_format(args.data) if args.data else digits()).first(args.limit)
    records = []
    for n in args.n:
        for strategy in args.strategies:
            records.append(cell(data, n, strategy, args))
            results.merge_records(
                args.results / "company.json", "company", records[-1:], key="name", command=_command(args)
            )
            print({key: records[-1][key] for key in SHOWN}, flush=True)
    return records


def cell(data: Split, n: int, strategy: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one model, and measure it."""
    epochs, side = args.epochs or (3 if args.data else 100), data.train_x.shape[-1]
    torch.manual_seed(0)
    model = muxwrap.wrap(Net(side, args.width), n, strategy, example_input=torch.zeros(1, 1, side, side))
    name = f"{strategy} n={n}"
    with tqdm(bar_format="{desc}", leave=False) as bar:
        train(model, data.train_x, data.train_y, epochs, name, bar.set_description)
    score = muxwrap.evaluate(model, batches(data.test_x, data.test_y, 64 * n), progress=False)
    shares = {"mean": score.mean, "std": score.deviation or 0.0, **readable(model, data, n)}
    attacked = slice(args.attacked)
    beside = adversarial_company(model, batches(data.test_x[attacked], data.test_y[attacked], 50))
    shares |= {"usual": beside.usual, "chosen": beside.chosen, "crafted": beside.crafted or 0.0}
    chosen = {"backbone": f"residual CNN of width {args.width}", "dataset": data.name, "n": n, "strategy": strategy}
    counts = {"demux": model.demuxer.name, "epochs": epochs, "attacked": beside.rows, "rows": len(data.test_x)}
    return {"name": name, **chosen, **counts, **{key: round(100 * shares[key], 2) for key in PERCENT}}


def readable(model: Multiplex, data: Split, n: int) -> dict[str, float]:
    """Return what probes read of companions and of the index."""
    company = company_readable(model, batches(data.test_x, data.test_y, 64 * n))
    index = index_readable(model, [x for x, _ in batches(data.test_x, data.test_y, 64 * n)])
    return {
        "own": company.own,
        "neighbour": company.neighbour,
        "chance": company.chance,
        "index": index.accuracy,
        "chance_of_index": index.chance,
    }


def batches(x: Tensor, y: Tensor, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Cut images and labels into batches."""
    return list(zip(x.split(rows), y.split(rows), strict=True))


def _command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    options = ["--data FOLDER"] if args.data else []
    options += [f"--{key} {getattr(args, key)}" for key in ("epochs", "limit") if getattr(args, key)]
    return " ".join(["python -m benchmarks.studies.company", *options])
