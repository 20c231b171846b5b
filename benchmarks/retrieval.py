"""Which retrieval head: a warm-up on the sentences of SST-2, then the task, for every kind of head.

    python benchmarks/retrieval.py --data sst2 --n 4 --strategies hadamard slots --seeds 0 1 2

``--data`` is a folder with ``train.tsv.gz`` and ``dev.tsv.gz`` (a header, then sentence and label). Writes
docs/results/retrieval.json: retrieval accuracy after the warm-up, accuracy of the task over random groupings after it.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import itertools
import time
from pathlib import Path
from typing import Any

import results
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

import muxwrap
from muxwrap.training import retrieval_head, warm_up

VOCABULARY, LENGTH, MIXTURES, GROUPINGS = 2000, 24, 16, 5
PADDING, UNKNOWN, FIRST = 0, 1, 2  # FIRST stands before every sentence and is what the classifier reads
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}


def read(path: Path) -> list[tuple[list[str], int]]:
    with gzip.open(path, "rt") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines][1:]
    return [(text.split(), int(label)) for text, label in rows]


def encode(rows: list[tuple[list[str], int]], words: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return ids ``[rows, LENGTH]`` and labels ``[rows]``."""
    ids = torch.full((len(rows), LENGTH), PADDING)
    for i, (text, _) in enumerate(rows):
        row = [FIRST, *(words.get(word, UNKNOWN) for word in text)][:LENGTH]
        ids[i, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([label for _, label in rows])


def call(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": (ids != PADDING).long()}


@torch.no_grad()
def accuracies(model: muxwrap.Multiplex, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the task's accuracy for several random groupings."""
    model.eval()
    found = []
    for seed in range(GROUPINGS):
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
        right = [model(**call(ids[rows])).logits.argmax(-1) == labels[rows] for rows in order.split(256)]
        found.append(torch.cat(right).float().mean())
    return torch.stack(found)


def measure(args: argparse.Namespace, cell: dict[str, Any], train: Any, dev: Any) -> dict[str, Any]:
    """Warm up, train for the task, and return one record."""
    torch.manual_seed(cell["seed"])
    (ids, labels), (dev_ids, dev_labels), rows = train, dev, MIXTURES * args.n
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, num_labels=2, **SIZES)
    model = muxwrap.wrap(BertForSequenceClassification(config), args.n, cell["strategy"], seed=cell["seed"])
    head = retrieval_head(model, vocabulary=cell["vocabulary"], demuxer=cell["demuxer"], seed=cell["seed"])
    batches = torch.utils.data.DataLoader(
        ids, rows, shuffle=True, drop_last=True, collate_fn=lambda x: call(torch.stack(x))
    )
    held_out = [call(part) for part in dev_ids.split(rows)]
    start = time.perf_counter()
    warmed = warm_up(
        model,
        batches,
        args.warm_up,
        head=head,
        held_out=held_out,
        every=args.warm_up,
        seed=cell["seed"],
        progress=False,
    )
    seconds = time.perf_counter() - start
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, args.steps)
    model.train()
    for _ in range(args.steps):
        picked = torch.randint(len(ids), (rows,))
        loss = model(**call(ids[picked]), labels=labels[picked]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    found = accuracies(model, dev_ids, dev_labels)
    return {
        **cell,
        "cell": "-".join(map(str, [args.n, *cell.values(), args.warm_up, args.steps])),
        "n": args.n,
        "warm_up_steps": args.warm_up,
        "warm_up_seconds": round(seconds, 1),
        "retrieval": warmed.accuracy,
        "per_index": warmed.per_index,
        "steps": args.steps,
        "metric": "accuracy",
        "mean": float(found.mean()),
        "std": float(found.std()),
        "groupings": GROUPINGS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv.gz and dev.tsv.gz")
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--strategies", nargs="+", default=["hadamard", "slots"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--warm-up", type=int, default=400, help="steps of retrieval")
    parser.add_argument("--steps", type=int, default=2500, help="steps of the task")
    parser.add_argument("--lr", type=float, default=5e-4, help="of the task")
    parser.add_argument("--output", type=Path, default=results.ROOT / "docs/results/retrieval.json")
    args = parser.parse_args()
    train = read(args.data / "train.tsv.gz")
    counts = collections.Counter(word for text, _ in train for word in text)
    words = {word: i + FIRST + 1 for i, (word, _) in enumerate(counts.most_common(VOCABULARY - FIRST - 1))}
    encoded, dev = encode(train, words), encode(read(args.data / "dev.tsv.gz"), words)
    heads = [("tied", "separate"), ("tied", "shared"), ("free", "separate")]
    for seed, strategy, (vocabulary, demuxer) in itertools.product(args.seeds, args.strategies, heads):
        cell = {"strategy": strategy, "vocabulary": vocabulary, "demuxer": demuxer, "seed": seed}
        record = measure(args, cell, encoded, dev)
        results.merge_records(args.output, "retrieval", [record], key="cell")
        print(f"{record['cell']:40} retrieval {record['retrieval']:.3f}  task {record['mean']:.3f}", flush=True)


if __name__ == "__main__":
    main()
