"""One network as an ensemble of n (MIMO), beside a single network and a deep ensemble of n networks.

    python -m benchmarks.studies.ensemble --data FOLDER [--dataset cifar10-subset fashion-mnist] [--device cuda]

A ResNet on the CIFAR-10 subset and a perceptron on Fashion-MNIST, n = 2 and 3. Networks with n > 1 answer with
``model.members(x)``: every row at all indices, the mean of n probabilities, at the cost of one pass. All networks have
the same epochs and batches; an ensemble's batch makes ``--repetitions`` times the mixtures (batch repetition). The share of
mixtures that hold one image n times is chosen on held-out training images. Every network is a record; what is there is not
trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.results import device_name, merge_records, read_records
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.common.recipe import Recipe, train
from benchmarks.studies.ensemble.scores import probabilities, scores
from benchmarks.studies.vision.data import Data, load, moved
from benchmarks.studies.vision.models import Backbone, make
from benchmarks.studies.vision.training import ShuffledRows
from muxwrap.training import mimo_rows

BATCH, DECAY = 128, 0.05
BACKBONES = {"cifar10-subset": "resnet", "fashion-mnist": "mlp"}
CONFIGURATIONS = {"resnet": "channels@@input", "mlp": "slots@first"}
EPOCHS, RATES = {"resnet": 30, "mlp": 20}, {"resnet": 4e-3, "mlp": 2e-3}
SEEDS, SINGLE = 3, 6  # networks per kind; of the plain one as many as the deep ensembles need


class Cell(NamedTuple):
    """One network: n=1 is a plain one."""

    dataset: str
    n: int
    same: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.dataset}/n={self.n}/same={self.same}/seed={self.seed}"


def cells(dataset: str, counts: list[int], shares: list[float]) -> list[Cell]:
    """Return the networks of a data set."""
    plain = [Cell(dataset, 1, 0.0, seed) for seed in range(SINGLE) if 1 in counts]
    several = [n for n in counts if n > 1]
    return plain + [Cell(dataset, n, same, seed) for n in several for same in shares for seed in range(SEEDS)]


def measure(cell: Cell, data: Data, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train a network; return its record, and its probabilities per split."""
    kind = BACKBONES[cell.dataset]
    configuration = "bare" if cell.n == 1 else CONFIGURATIONS[kind]
    backbone = Backbone(kind, data.channels, data.side)
    model = make(backbone, configuration, cell.n, "mlp", cell.seed).to(args.device)
    fit(model, cell, data, args)
    found = {"select": probabilities(model, data.select.images), "test": probabilities(model, data.test.images)}
    return {
        "key": cell.key,
        **cell._asdict(),
        "backbone": kind,
        "strategy": configuration.partition("@")[0],
        "epochs": args.epochs or EPOCHS[kind],
        "repetitions": args.repetitions if cell.n > 1 else 1,
        "passes": 1,
        "device": device_name(args.device),
        **{split: scores(each, getattr(data, split)) for split, each in found.items()},
    }, found


def fit(model: nn.Module, cell: Cell, data: Data, args: argparse.Namespace) -> None:
    """Train with one cycle of the learning rate; images are shifted, and mirrored where they have colours."""
    kind = BACKBONES[cell.dataset]
    epochs, rate = args.epochs or EPOCHS[kind], RATES[kind]
    how = Recipe(epochs=epochs, mixtures=1, least_rows=BATCH, seed=cell.seed, lr=rate, decay=DECAY, rise=0.2, clip=None)
    images, labels = data.train

    def loss_of(rows: Tensor) -> Tensor:
        if cell.n > 1:
            order = mimo_rows(len(rows), cell.n, args.repetitions, cell.same)
            rows = rows[order.to(rows.device)]
        if cell.same:  # the copies in one mixture stay copies
            return F.cross_entropy(model(_moved_alike(images, rows, data)), labels[rows])
        return F.cross_entropy(model(moved(images[rows], data.side, flip=data.channels == 3)), labels[rows])

    torch.manual_seed(cell.seed)
    batches = ShuffledRows(len(labels), BATCH, labels.device)
    for _ in train(model, batches, loss_of, how.optimizer(model.parameters(), model), how, lambda _: None):
        pass


def _moved_alike(images: Tensor, rows: Tensor, data: Data) -> Tensor:
    """Move every image of a batch once, so that a row which is there several times is the same each time."""
    known, places = rows.unique(return_inverse=True)
    return moved(images[known], data.side, flip=data.channels == 3)[places]


def deep_ensembles(plain: list[dict[str, Tensor]], dataset: str, data: Data) -> list[dict[str, Any]]:
    """Return the records of deep ensembles: the mean of n plain networks' probabilities, disjoint networks per ensemble."""
    found = []
    for n in (2, 3):
        for number, first in enumerate(range(0, len(plain) - n + 1, n)):
            record = {"key": f"{dataset}/deep={n}/{number}", "dataset": dataset, "n": n, "seed": number, "passes": n}
            for split in ("select", "test"):
                mean = torch.stack([each[split] for each in plain[first : first + n]]).mean(0)
                record[split] = scores(mean, getattr(data, split))
            found.append({**record, "strategy": "deep ensemble", "backbone": BACKBONES[dataset]})
    return found


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="the data sets", results="ensemble.json", device=True)
    made.add_argument("--dataset", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    made.add_argument("--n", nargs="+", type=int, default=[1, 2, 3], help="instances per mixture; 1 is a plain network")
    made.add_argument("--same", nargs="+", type=float, default=[0.0, 0.5], help="shares of mixtures of one image")
    made.add_argument("--repetitions", type=int, default=2, help="how often an index sees an image per step")
    made.add_argument("--epochs", type=int, help="default: 30 for the ResNet, 20 for the perceptron")
    made.add_argument("--limit", type=int, help="rows of every split at most, for a trial")
    args = made.parse_args(argv)
    set_threads(args)
    command = f"python -m benchmarks.studies.ensemble --data FOLDER --repetitions {args.repetitions}"
    for dataset in args.dataset:
        data = load(dataset, args.data, 2, args.limit).to(args.device)
        _run(dataset, data, args, args.results, command)


def _run(dataset: str, data: Data, args: argparse.Namespace, results: Path, command: str) -> None:
    plain: list[dict[str, Tensor]] = []
    done = {record["key"] for record in read_records(results)}
    wanted = cells(dataset, args.n, args.same)
    deep_is_done = any(key.startswith(f"{dataset}/deep") for key in done)
    for cell in tqdm(wanted, desc=dataset):
        if cell.key in done and (cell.n > 1 or deep_is_done):
            continue
        record, found = measure(cell, data, args)
        merge_records(results, "ensemble", [record], key="key", command=command)
        tqdm.write(f"{cell.key:45} {record['test']}")
        if cell.n == 1:
            plain.append(found)
        if len(plain) == SINGLE:
            merge_records(results, "ensemble", deep_ensembles(plain, dataset, data), key="key", command=command)
            plain = []
