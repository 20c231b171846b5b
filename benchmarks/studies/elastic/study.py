"""One model for several n beside a model made for each n alone, both converted from the same trained transformer.

    python -m benchmarks.studies.elastic --data FOLDER [--device cuda]

A vision transformer of four blocks is trained on Fashion-MNIST. Its patches are then pooled after two blocks, and every
model is distilled from it with the same batches, epochs and loss. ``alone`` has seen one n. ``sandwich`` has seen n = 1,
8 and one between at every step (:func:`muxwrap.training.sandwich`), which costs as much as three steps; ``one a step`` has
seen one n at random, which costs no more than training for one. The rivals are plain: with fewer blocks, distilled as long
from the teacher's weights, or narrower, distilled from random weights for the teacher's epochs and those of the others.
Nothing is selected: all have the learning rate of the first (narrower ones the teacher's), and the weights after the last
epoch. Every model and n is a record; what is there is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import muxwrap
from benchmarks.results import device_name, merge_records, read_records
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.common.recipe import Recipe, taught_loss, train
from benchmarks.studies.elastic.models import AFTER, DIM, RIVALS, SIZES, rival, transformer
from benchmarks.studies.vision.data import Data, Split, load
from benchmarks.studies.vision.training import ShuffledRows
from muxwrap.training import sandwich

BATCH, DECAY, TEACHER_RATE, RATE = 128, 0.05, 2e-3, 1e-3


class Cell(NamedTuple):
    """One trained model: ``alone`` has one size."""

    training: str  # "teacher", "alone", "sandwich", "one a step" or a rival's name
    sizes: tuple[int, ...]
    seed: int

    def key(self, n: int) -> str:
        return f"{self.training}/n={n}/seed={self.seed}"

    def keys(self) -> set[str]:
        return {self.key(n) for n in self.sizes}


def cells(seeds: list[int]) -> Iterator[Cell]:
    """Yield the models, each seed's teacher first."""
    for seed in seeds:
        yield Cell("teacher", (1,), seed)
        yield Cell("sandwich", SIZES, seed)
        yield from (Cell("alone", (n,), seed) for n in SIZES)
        yield Cell("one a step", SIZES, seed)
        yield from (Cell(name, (1,), seed) for name in RIVALS)


def recipe(cell: Cell, args: argparse.Namespace) -> Recipe:
    narrower = cell.training in RIVALS and RIVALS[cell.training].dim < DIM
    epochs, rate = (args.epochs, RATE)
    if cell.training == "teacher" or narrower:
        epochs, rate = args.teacher_epochs + args.epochs * narrower, TEACHER_RATE
    return Recipe(epochs=epochs, mixtures=1, least_rows=BATCH, seed=cell.seed, lr=rate, decay=DECAY, rise=0.2, clip=1.0)


def fit(model: nn.Module, cell: Cell, data: Split, answers: Tensor | None, how: Recipe) -> None:
    """Train in place on labels and, where there are some, a teacher's answers ``[rows, classes]``."""
    images, labels = data

    def loss_at(rows: Tensor) -> Tensor:
        logits = model(images[rows])
        return taught_loss(F.cross_entropy(logits, labels[rows]), logits, None if answers is None else answers[rows])

    def loss_of(rows: Tensor) -> Tensor:
        """Return the mean loss at the sizes of a step."""
        if cell.training == "one a step":
            model.n = cell.sizes[int(torch.randint(len(cell.sizes), ()))]
        if cell.training != "sandwich":
            return loss_at(rows)
        losses = []
        for _ in sandwich(model):
            losses.append(loss_at(rows))
        return torch.stack(losses).mean()

    torch.manual_seed(cell.seed)
    batches = ShuffledRows(len(labels), BATCH, labels.device)
    for _ in train(model, batches, loss_of, how.optimizer(model.parameters(), model), how, lambda _: None):
        pass


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(part) for part in images.split(500)])


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the accuracy in percent; a row's answer does not depend on its companions, so one grouping is enough."""
    return 100 * (logits_of(model, split.images).argmax(-1) == split.labels).double().mean().item()


def measure(cell: Cell, teacher: nn.Module, answers: Tensor | None, data: Data, args: Any) -> list[dict[str, Any]]:
    """Train a model, in place where it is the teacher, and return a record for each of its sizes."""
    how = recipe(cell, args)
    model = teacher
    if cell.training in RIVALS:
        model = rival(cell.training, teacher, data.side).to(args.device)
    elif cell.training != "teacher":
        n = cell.sizes if len(cell.sizes) > 1 else cell.sizes[0]
        example = data.train.images[:1]
        model = muxwrap.wrap(teacher, n, "pool", mux_at=f"blocks.{AFTER - 1}", example_input=example, seed=cell.seed)
    fit(model, cell, data.train, answers, how)
    found = []
    for n in cell.sizes:
        if isinstance(model, muxwrap.Multiplex):
            model.n = n
        scores = {split: accuracy(model, getattr(data, split)) for split in ("select", "test")}
        found.append(
            {
                "key": cell.key(n),
                **cell._asdict(),
                "n": n,
                "dataset": data.name,
                "after": AFTER,
                "epochs": how.epochs,
                "lr": how.lr,
                "batch": BATCH,
                "train_rows": len(data.train.labels),
                "dtype": "float32",
                "device": device_name(args.device),
                **scores,
            }
        )
    return found


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="Fashion-MNIST", results="elastic.json", device=True)
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--epochs", type=int, default=3, help="of every converted model")
    made.add_argument("--teacher-epochs", type=int, default=6)
    made.add_argument("--kept", type=Path, default=Path("runs/elastic"), help="folder for teachers")
    made.add_argument("--limit", type=int, help="rows of every split at most, for a trial")
    args = made.parse_args(argv)
    set_threads(args)
    data = load("fashion-mnist", args.data, 0, args.limit).to(args.device)
    command = f"python -m benchmarks.studies.elastic --data FOLDER --epochs {args.epochs}"
    command += f" --teacher-epochs {args.teacher_epochs}"
    taught: dict[int, Tensor] = {}  # a seed's teacher's answers
    save = partial(merge_records, args.results, "elastic", key="key", command=command)
    for cell in cells(args.seeds):
        path = args.kept / f"teacher-{cell.seed}.pt"
        done = {record["key"] for record in read_records(args.results)}
        if cell.keys() <= done and (cell.training != "teacher" or path.exists()):
            continue
        torch.manual_seed(cell.seed)
        model = transformer(data.side).to(args.device)
        if cell.training != "teacher":
            model.load_state_dict(torch.load(path, map_location=args.device))
            if cell.seed not in taught:
                taught = {cell.seed: logits_of(model, data.train.images)}
        records = measure(cell, model, taught.get(cell.seed), data, args)
        if cell.training == "teacher":
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path)
        save(records)
        for record in records:
            print(f"{record['key']:28} {record['test']:.2f} %", flush=True)
