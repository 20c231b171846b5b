"""How well the tokens of n sequences come back from one mixture: the retrieval warm-up alone, on unseen text.

    python -m benchmarks.studies.text.retrieval --data FOLDER    # WikiText-2: the zip of training articles, valid.txt.gz

Writes docs/results/retrieval_levels.json, a record a cell; cells that are there are not trained again.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel

from benchmarks import results
from benchmarks.studies.text.data import articles
from benchmarks.studies.text.models import multiplexed
from muxwrap.training import warm_up

# (n, configuration): (width, steps, learning rate); the configurations are those of models.py
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
COMMAND = (
    "python -m benchmarks.studies.text.retrieval --data FOLDER"  # makes every cell; without the paths of one machine
)


def words_of(data: Path) -> tuple[list[str], list[str]]:
    """Return the words of the training articles and of the validation text."""
    with gzip.open(data / "valid.txt.gz", "rt", encoding="utf-8") as file:
        return " ".join(articles(data)).split(), file.read().split()


def encode(train: list[str], held_out: list[str], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return ids ``[sequences, LENGTH]``; words beyond the most frequent ones are id 0."""
    common = collections.Counter(train).most_common(vocabulary - 1)
    ids = {word: i + 1 for i, (word, _) in enumerate(common)}
    found = [torch.tensor([ids.get(word, 0) for word in words]) for words in (train, held_out)]
    first, second = (each[: len(each) // LENGTH * LENGTH].view(-1, LENGTH) for each in found)
    return first, second


def cell(n: int, configuration: str, args: argparse.Namespace, train: Tensor, held_out: Tensor) -> dict[str, Any]:
    """Warm up one model and measure retrieval on every held-out sequence."""
    width, steps, lr = CELLS[n, configuration]
    torch.manual_seed(args.seed)
    sizes = {"hidden_size": width, "num_hidden_layers": LAYERS, "intermediate_size": 4 * width}
    config = BertConfig(
        vocab_size=args.vocabulary, max_position_embeddings=LENGTH, num_attention_heads=width // 32, **sizes
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = multiplexed(BertModel(config, add_pooling_layer=False), configuration, n, args.seed)
    batches = DataLoader(train, MIXTURES * n, shuffle=True, drop_last=True)
    start = time.perf_counter()
    found = warm_up(model, batches, steps, lr=lr, held_out=held_out.split(MIXTURES * n), every=steps, seed=args.seed)
    return {
        "cell": f"{n}-{configuration}-{args.seed}",
        "backbone": f"BERT {LAYERS}x{width}",
        "dataset": f"WikiText-2, {args.vocabulary} words",
        "split": "validation",
        "n": n,
        "configuration": configuration,
        "strategy": model.strategy.name,
        "demux": model.demuxer.name,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n", type=int, nargs="+", help="only these")
    parser.add_argument("--configurations", nargs="+", help="only these")
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=results.ROOT / "docs/results/retrieval_levels.json")
    args = parser.parse_args()
    train, held_out = encode(*words_of(args.data), args.vocabulary)
    done = results.read_records(args.results)
    for n, configuration in CELLS:
        wanted = (not args.n or n in args.n) and (not args.configurations or configuration in args.configurations)
        if not wanted or any(r["cell"] == f"{n}-{configuration}-{args.seed}" for r in done):
            continue
        record = cell(n, configuration, args, train, held_out)
        results.merge_records(args.results, "retrieval_levels", [record], key="cell", command=COMMAND)
        print(
            f"n={n:2} {configuration:10} {record['mean']:.4f} least {min(record['per_index']):.4f}, {record['seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
