"""EfficientNet-Lite0 with ImageNet weights, fine-tuned on a subset of CIFAR-10 and converted, beside plain models of less work.

    python -m benchmarks.studies.convert_images --data FOLDER --weights efficientnet-lite0-57934424.pth [--device cuda]

The images are enlarged to 64 pixels. The stem, three of seven stages, and all depthwise filters keep their weights; the
rest of the network is the trunk. A fine-tuned trunk is the teacher. Every other model begins with its weights, and
learns from labels and its answers with the same batches, epochs and learning rate: mixed after a stage, with smaller
images, or with fewer blocks. Nothing is selected during training: the weights are those after the last epoch. Accuracy on
the held-out training images is recorded beside that on the test images, so that a place can be chosen by it. Every model
is a record; what is there is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import muxwrap
from benchmarks.results import device_name, merge_records, read_records
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.common.groupings import GROUPINGS
from benchmarks.studies.common.models import operations
from benchmarks.studies.common.recipe import Recipe, taught_loss, train
from benchmarks.studies.convert_images.backbone import features, pretrained, stem_of, trunk_of
from benchmarks.studies.convert_images.configurations import SIDE, Configuration, configurations
from benchmarks.studies.vision.data import Split, cifar10
from benchmarks.studies.vision.training import ShuffledRows
from muxwrap.training import distill

BATCH, RATE, DECAY = 64, 1e-3, 0.05
HELD_OUT = 1000  # of the training images
TEACHER = Configuration("teacher")


class Images:
    """The splits, and what the stem makes of them; training images are there twice, the second time mirrored.

    Args:
        folder: of the subset.
        stem: reads the images.
        device: where to train.
        limit: images of every split at most, for a trial.
    """

    def __init__(self, folder: Path, stem: nn.Module, device: torch.device, limit: int | None = None) -> None:
        whole, test = cifar10(folder)
        fit, held_out = slice(0, -HELD_OUT), slice(-HELD_OUT, None)
        splits = {"train": Split(*(each[fit] for each in whole)), "select": Split(*(each[held_out] for each in whole))}
        splits["test"] = test
        self.splits = {name: Split(*(each[:limit].to(device) for each in split)) for name, split in splits.items()}
        self.stem, self.device = stem.to(device), device
        self._made: dict[int, dict[str, Tensor]] = {}

    def at(self, side: int) -> dict[str, Tensor]:
        """Return the features of every split; of training images ``[2, rows, C, H, W]``."""
        if side not in self._made:
            made = {name: features(self.stem, split.images, side) for name, split in self.splits.items()}
            mirrored = features(self.stem, self.splits["train"].images.flip(-1), side)
            made["train"] = torch.stack([made["train"], mirrored])
            self._made = {side: made}  # one side at a time
        return self._made[side]


def fit(model: nn.Module, inputs: Tensor, labels: Tensor, answers: Tensor | None, epochs: int, seed: int) -> None:
    """Train in place on ``inputs [2, rows, C, H, W]`` and, where there are some, a teacher's answers to them."""
    how = Recipe(epochs=epochs, mixtures=1, least_rows=BATCH, seed=seed, lr=RATE, decay=DECAY, rise=0.2, clip=1.0)

    def loss_of(rows: Tensor) -> Tensor:
        mirrored = torch.randint(2, (len(rows),), device=rows.device)
        logits = model(inputs[mirrored, rows].contiguous(memory_format=torch.channels_last))
        return taught_loss(
            F.cross_entropy(logits, labels[rows]), logits, None if answers is None else answers[mirrored, rows]
        )

    torch.manual_seed(seed)
    batches = ShuffledRows(len(labels), BATCH, labels.device)
    parameters = [each for each in model.parameters() if each.requires_grad]
    for _ in train(model, batches, loss_of, how.optimizer(parameters, model), how, lambda _: None):
        pass


class Batches:
    """An epoch of training images, each mirrored or not, and their labels; the next iteration is the next epoch."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        self.rows = ShuffledRows(len(labels), BATCH, labels.device)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.rows:
            mirrored = torch.randint(2, (len(rows),), device=rows.device)
            yield self.inputs[mirrored, rows].contiguous(memory_format=torch.channels_last), self.labels[rows]


@torch.no_grad()
def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the answers to ``[..., C, H, W]``."""
    model.eval()
    flat = inputs.flatten(0, -4)
    return torch.cat([model(part) for part in flat.split(500)]).unflatten(0, inputs.shape[:-3])


def measure(
    configuration: Configuration, images: Images, trunk: nn.Module, taught: Tensor | None, args: Any, seed: int
) -> dict[str, Any]:
    """Train a model made of a trunk, in place where it is the teacher, and return its record."""
    found = images.at(configuration.side)
    model = configuration.make(trunk, found["test"][:1], seed).to(memory_format=torch.channels_last)
    teaching = configuration == TEACHER
    epochs = args.teacher_epochs if teaching else args.epochs
    labels = images.splits["train"].labels
    if configuration.states:
        batches = Batches(found["train"], labels)
        torch.manual_seed(seed)
        distill(model, batches, epochs * len(batches), states=1.0, lr=RATE, seed=seed, progress=False)
    else:
        fit(model, found["train"], labels, taught, epochs, seed)
    record = {
        "key": f"{configuration}/seed={seed}",
        "configuration": str(configuration),
        **vars(configuration),
        "seed": seed,
        "dataset": "cifar10-subset",
        "epochs": epochs,
        "lr": RATE,
        "batch": BATCH,
        "train_rows": len(images.splits["train"].labels),
        "dtype": "float32",
        "device": device_name(images.device),
        "mflops": round(work(model, images.stem, found["test"], configuration.side) / 1e6, 2),
    }
    for split in ("select", "test"):
        rows, labels = found[split], images.splits[split].labels
        calls = list(zip(rows.split(500), labels.split(500), strict=True))
        scores = muxwrap.evaluate(model.eval(), calls, groupings=GROUPINGS, progress=False)
        record[split] = round(100 * scores.mean, 3)
    return record


def work(model: nn.Module, stem: nn.Module, made: Tensor, side: int) -> float:
    """Return the floating-point operations of an image, the stem's among them."""
    of_stem = operations(stem, lambda rows: torch.zeros(rows, 3, side, side, device=made.device))
    return of_stem + operations(model, lambda rows: made[:1].expand(rows, -1, -1, -1))


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="the subset of CIFAR-10", results="convert_images.json", device=True)
    made.add_argument("--weights", type=Path, help="the network's ImageNet weights; random ones without it")
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_argument("--epochs", type=int, default=5, help="of every converted or smaller model")
    made.add_argument("--teacher-epochs", type=int, default=5)
    made.add_argument(
        "--only", nargs="+", metavar="NAME", help="models by name, such as 'plain, 48 pixels'; all without it"
    )
    made.add_argument("--kept", type=Path, default=Path("runs/convert_images"), help="folder for teachers")
    made.add_argument("--limit", type=int, help="rows of every split at most, for a trial")
    args = made.parse_args(argv)
    unknown = set(args.only or ()) - {str(each) for each in configurations()}
    if unknown:
        made.error(f"--only {min(unknown)!r}: no such model; there are {', '.join(map(str, configurations()))}")
    set_threads(args)
    for seed in args.seeds:
        _run(args, seed)


def _run(args: argparse.Namespace, seed: int) -> None:
    torch.manual_seed(seed)
    whole, path = pretrained(args.weights), args.kept / f"teacher-{seed}.pt"
    images = Images(args.data / "cifar10-subset", stem_of(whole), args.device, args.limit)
    command = f"python -m benchmarks.studies.convert_images --data FOLDER --weights FILE --epochs {args.epochs}"
    command += f" --teacher-epochs {args.teacher_epochs}"
    taught: Tensor | None = None
    asked = [each for each in configurations() if args.only is None or str(each) in args.only]
    for configuration in (TEACHER, *asked):
        key, teaching = f"{configuration}/seed={seed}", configuration == TEACHER
        there = key in {record["key"] for record in read_records(args.results)}
        if there and (path.exists() or not teaching):
            continue
        trunk = trunk_of(whole).to(args.device)
        if not teaching:
            trunk.load_state_dict(torch.load(path, map_location=args.device))
            taught = logits_of(trunk, images.at(SIDE)["train"]) if taught is None else taught
        record = measure(configuration, images, trunk, taught, args, seed)
        if teaching:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(trunk.state_dict(), path)
        merge_records(args.results, "convert_images", [record], key="key", command=command)
        print(f"{key:40} {record['test']:.2f} %, {record['mflops']} MFLOP", flush=True)
