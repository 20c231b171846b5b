"""One residual network, trained bare and with 2, 4 and 8 images sharing every pass: what is gained and what it costs.

    python -m benchmarks.demo                  # scikit-learn's handwritten digits
    python -m benchmarks.demo --data FOLDER    # MNIST, Fashion-MNIST, ...: their four idx files

Every configuration gets the same training function and the same number of epochs. The test images are scored under
five random groupings, since a prediction depends a little on the images that share its mixture; none is left out.
Hyper-parameters were chosen with --validate, which never looks at the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import muxwrap
from benchmarks import results
from benchmarks.demo.data import Split, digits, held_out, jitter, mnist_format
from muxwrap.evaluation import Evaluation
from muxwrap.throughput import Configuration, Report, compare

GROUPINGS = 5
BATCH, LEARNING_RATE = 128, 4e-3
WIDTH, BLOCKS = 128, 3  # bare and three multiplexed ones train in under five minutes on two cores


class Block(nn.Module):
    """Two convolutions beside an identity; it starts as the identity, so that separate instances stay separate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Net(nn.Module):
    """A small residual network: one convolution as the stem, blocks of one width, mean, classifier."""

    def __init__(self, side: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        # A wide view, as in ResNet: what an instance keeps in the mixture is computed from this layer alone.
        self.stem = nn.Conv2d(1, width, 7, stride=max(2, side // 7), padding=3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


def make(side: int, n: int) -> nn.Module:
    torch.manual_seed(0)
    model = Net(side)
    if n > 1:
        model = muxwrap.wrap(model, n=n, example_input=torch.zeros(1, 1, side, side))  # the one added line
    return model


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, name: str) -> None:
    """Plain training; a new order every epoch gives every image new companions."""
    torch.manual_seed(0)
    steps = max(1, len(x) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps * epochs, pct_start=0.2)
    model.train()
    with tqdm(total=steps * epochs, desc=f"train {name}", unit="step", leave=False) as bar:
        for _ in range(epochs):
            for rows in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
                loss = F.cross_entropy(model(jitter(x[rows])), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")


def evaluated(model: nn.Module, x: Tensor, y: Tensor, n: int) -> Evaluation:
    """Return the accuracy over random groupings of all images, in calls of whole mixtures except for the last one."""
    rows = 64 * n
    return muxwrap.evaluate(model, zip(x.split(rows), y.split(rows), strict=True), groupings=GROUPINGS, progress=False)


def measure(models: dict[int, nn.Module], side: int) -> Report:
    """Time all models in one run, in turn, each at its own best batch size."""
    example = torch.rand(1, 1, side, side)
    configurations = [Configuration(label(n), model, example) for n, model in models.items()]
    with tqdm(desc="measure the speed", bar_format="{desc}", leave=False) as bar:
        return compare(
            configurations, mixtures=(16, 32, 64, 128, 256), rounds=9, seconds=0.3, progress=bar.set_description
        )


def label(n: int) -> str:
    return "bare" if n == 1 else f"n={n}"


def records(
    data: Split, split: str, scores: dict[int, Evaluation], report: Report, epochs: int
) -> list[dict[str, Any]]:
    found = []
    for n, score in scores.items():
        cell = report[n]
        model = {"backbone": f"residual CNN, {BLOCKS} blocks of {WIDTH}", "dataset": data.name, "split": split, "n": n}
        chosen = {"strategy": cell.strategy, "demux": cell.demux, "metric": score.metric}
        per_index = [round(100 * value, 2) for value in score.per_index]
        # In percent; the bare model's one grouping does not deviate.
        result = {"mean": 100 * score.mean, "std": 100 * (score.deviation or 0.0), "per_index": per_index}
        counts = {"groupings": len(score.scores), "seeds": 1, "epochs": epochs}
        speed = {"instances_per_second": cell.instances_per_second, "ratio_to_bare": cell.ratio_to_bare}
        found.append({**model, **chosen, **result, **counts, **speed, "added_parameters": cell.added_parameters})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| model | accuracy | images/s | speed | added parameters |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        accuracy = f"{row['mean']:.1f} ± {row['std']:.1f} %"
        speed = f"{row['instances_per_second']:,.0f} | {row['ratio_to_bare']:.2f}x"
        lines.append(f"| {label(row['n'])} | {accuracy} | {speed} | {row['added_parameters']:,} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    speeds, means = ([row[key] for row in rows] for key in ("ratio_to_bare", "mean"))
    ax.errorbar(speeds, means, yerr=[row["std"] for row in rows], marker="o", capsize=3)
    for row, x, y in zip(rows, speeds, means, strict=True):
        ax.annotate(label(row["n"]), (x, y), textcoords="offset points", xytext=(8, 6))
    ax.set(xlabel="images per second, bare model = 1", ylabel="test accuracy in %", title=rows[0]["dataset"])
    ax.margins(0.12)
    ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    options = ["--data FOLDER"] if args.data else []
    options += ["--validate"] if args.validate else []
    options += [f"--{key} {getattr(args, key)}" for key in ("epochs", "limit") if getattr(args, key)]
    options += [" ".join(["--n", *map(str, args.n)])] if args.n != [2, 4, 8] else []
    return " ".join(["python -m benchmarks.demo", *options])


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with the idx files of MNIST or of a data set like it")
    parser.add_argument("--n", type=int, nargs="+", default=[2, 4, 8], help="images that share one pass")
    parser.add_argument("--epochs", type=int, help="for every configuration; 100 for the digits, 4 for a folder")
    parser.add_argument("--limit", type=int, help="use this many training and test images at most")
    parser.add_argument("--validate", action="store_true", help="score on a quarter of the training images instead")
    parser.add_argument("--results", default="runs/demo", help="folder for demo.json; docs/results is the kept copy")
    args = parser.parse_args(argv)

    data = mnist_format(args.data) if args.data else digits()
    data = held_out(data) if args.validate else data
    cut = slice(args.limit)
    data = Split(data.name, *(each[cut] for each in data[1:]))
    epochs, side = args.epochs or (4 if args.data else 100), data.train_x.shape[-1]
    counts = [1, *(n for n in args.n if n > 1)]
    print(f"{data.name}: {len(data.train_x):,} images to train on, {len(data.test_x):,} to test, {epochs} epochs each")

    models = {n: make(side, n) for n in counts}
    scores = {}
    for n, model in models.items():
        train(model, data.train_x, data.train_y, epochs, label(n))
        scores[n] = evaluated(model, data.test_x, data.test_y, n)
        print(f"{label(n):>5}: {scores[n].mean:.1%} right", flush=True)
    rows = records(data, "validation" if args.validate else "test", scores, measure(models, side), epochs)

    folder = Path(args.results)
    pictures = folder.parent / "images" if folder.name == "results" else folder
    results.write(folder / "demo.json", "demo", rows, command(args))
    plot(rows, pictures / "demo.png")
    print(f"\n{table(rows)}\n\nwritten: {folder / 'demo.json'}, {pictures / 'demo.png'}")
    return rows
