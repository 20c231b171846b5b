"""How many tokens of n sequences come back from one mixture: the retrieval warm-up alone, on unseen text.

    python -m benchmarks.studies.text.retrieval --data FOLDER

FOLDER is wikitext-2, with the zip of training articles and valid.txt.gz. A cell that is already in
docs/results/retrieval_levels.json is not trained again.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BertModel

from benchmarks.studies.common.cells import Job, Progress, Record, Study
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.common.models import strategy_fields
from benchmarks.studies.text.data import articles
from benchmarks.studies.text.models import Sizes, config, multiplexed
from muxwrap.training import warm_up

# (n, configuration): (width, steps, learning rate), with the configurations of models.py
CELLS: dict[tuple[int, str], tuple[int, int, float]] = {
    (2, "slots"): (128, 1500, 2e-3),
    (4, "slots"): (128, 2000, 2e-3),
    (8, "slots"): (256, 2500, 1e-3),
    (20, "slots"): (384, 3000, 1e-3),
    (40, "slots"): (384, 3000, 1e-3),
    (8, "apart"): (256, 300, 1e-3),
    (20, "apart"): (384, 400, 1e-3),
    (40, "apart"): (384, 600, 1e-3),
    (2, "hadamard"): (128, 1500, 2e-3),
    (4, "hadamard"): (128, 2000, 2e-3),
    (8, "hadamard"): (256, 2500, 1e-3),
    (4, "identity"): (128, 1000, 2e-3),
}
LENGTH, MIXTURES, LAYERS = 32, 16, 2
COMMAND = "python -m benchmarks.studies.text.retrieval --data FOLDER"  # makes every cell


def words_of(data: Path) -> tuple[list[str], list[str]]:
    """Return the words of the training articles and of the validation text."""
    with gzip.open(data / "valid.txt.gz", "rt", encoding="utf-8") as file:
        return " ".join(articles(data)).split(), file.read().split()


def encode(train: list[str], held_out: list[str], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return ids ``[sequences, LENGTH]``; words beyond the most frequent ones are id 0."""
    common = collections.Counter(train).most_common(vocabulary - 1)
    ids = {word: i + 1 for i, (word, _) in enumerate(common)}
    encoded = [torch.tensor([ids.get(word, 0) for word in words]) for words in (train, held_out)]
    first, second = (each[: len(each) // LENGTH * LENGTH].view(-1, LENGTH) for each in encoded)
    return first, second


def key(n: int, configuration: str, seed: int) -> str:
    """Return what a measured cell is found by."""
    return f"{n}-{configuration}-{seed}"


def measure(n: int, configuration: str, args: argparse.Namespace, train: Tensor, held_out: Tensor) -> Record:
    """Warm up one model and measure retrieval on every held-out sequence."""
    width, steps, lr = CELLS[n, configuration]
    torch.manual_seed(args.seed)
    sizes = Sizes(LAYERS, width, width // 32, args.vocabulary)
    backbone = BertModel(config(sizes, max_position_embeddings=LENGTH, initializer_range=0.02), add_pooling_layer=False)
    model = multiplexed(backbone, configuration, n, args.seed)
    batches = DataLoader(train, MIXTURES * n, shuffle=True, drop_last=True)
    start = time.perf_counter()
    found = warm_up(model, batches, steps, lr=lr, held_out=held_out.split(MIXTURES * n), every=steps, seed=args.seed)
    return {
        "backbone": f"BERT {LAYERS}x{width}",
        "dataset": f"WikiText-2, {args.vocabulary} words",
        "split": "validation",
        "n": n,
        "configuration": configuration,
        **strategy_fields(model),
        "metric": "retrieval accuracy",
        "mean": found.accuracy,
        "per_index": found.per_index,
        "seed": args.seed,
        "steps": steps,
        "mixtures": MIXTURES,
        "length": LENGTH,
        "seconds": round(time.perf_counter() - start, 1),
        "always_the_most_frequent": (held_out.flatten().bincount().max() / held_out.numel()).item(),
    }


def summary(record: Record) -> str:
    """Return what is printed of a record."""
    return f"{record['mean']:.4f}, worst index {min(record['per_index']):.4f}"


def run(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    train, held_out = encode(*words_of(args.data), args.vocabulary)

    def job(n: int, configuration: str) -> Job:
        def measured(progress: Progress) -> Record:
            return measure(n, configuration, args, train, held_out)

        return Job(key(n, configuration, args.seed), f"{configuration} n={n}", measured)

    jobs = [
        job(n, configuration)
        for n, configuration in CELLS
        if (not args.n or n in args.n) and (not args.configurations or configuration in args.configurations)
    ]
    Study(args.results, "retrieval_levels", COMMAND, summary).run(jobs)


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data="WikiText-2", results="retrieval_levels.json")
    made.add_argument("--n", type=int, nargs="+", help="only cells with these")
    made.add_argument("--configurations", nargs="+", help="only cells with these")
    made.add_argument("--vocabulary", type=int, default=2000, help="most frequent words that are kept")
    made.add_argument("--seed", type=int, default=0, help="every cell is trained with it")
    args = made.parse_args(argv)
    set_threads(args)
    run(args)


if __name__ == "__main__":
    main()
