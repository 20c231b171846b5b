"""A fine-tuned classifier made faster, as the guide "Make your trained model faster" says: charted, chosen, distilled, saved.

    python examples/convert.py                                # a small BERT, fine-tuned on sentences that come with Python
    python examples/convert.py --model FOLDER --data FOLDER   # yours and its tokenizer; train.tsv.gz and dev.tsv.gz

The task without a folder: does a sentence come from the docstrings of the module decimal or from those of typing?
stdlib_text.py, which reads them, lies in the same folder.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any

import torch
from stdlib_text import make_tokenizer, sentences, shuffled_split
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

import muxwrap
from muxwrap.training import distill

MODULES = ("_pydecimal", "typing")
Rows = list[tuple[str, int]]


def splits(data: Path | None, quick: bool) -> tuple[Rows, Rows, Rows]:
    """Return texts with labels to train on, to choose by, and to report."""
    if data is None:
        rows = [(text, label) for label, module in enumerate(MODULES) for text in sentences(module)]
        train, others = shuffled_split(rows, held_out=64, limit=192) if quick else shuffled_split(rows, held_out=400)
    else:
        train, others = read(data / "train.tsv.gz"), read(data / "dev.tsv.gz")
    return train, others[::2], others[1::2]


def read(path: Path) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], int(row["label"])) for row in rows]


def loader(rows: Rows, tokenizer: Any, shuffle: bool = False) -> DataLoader[Any]:
    """Return batches of 32, each padded to its longest text, as dicts with labels."""

    def collate(batch: Rows) -> dict[str, Any]:
        encoded = tokenizer(
            [text for text, _ in batch], truncation=True, max_length=128, padding=True, return_tensors="pt"
        )
        return {**encoded, "labels": torch.tensor([label for _, label in batch])}

    return DataLoader(rows, batch_size=32, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


def fine_tuned(train: Rows, quick: bool, epochs: int) -> tuple[Any, Any]:
    """Return a small BERT, trained, and its tokenizer: what you have already."""
    tokenizer = make_tokenizer(text for text, _ in train)
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2 if quick else 6,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    }
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, num_labels=len(MODULES), **sizes)
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    model.train()
    for _ in range(epochs):
        for batch in loader(train, tokenizer, shuffle=True):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    return model.eval(), tokenizer


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="folder of a fine-tuned classifier of Transformers and its tokenizer"
    )
    parser.add_argument("--data", type=Path, help="folder with train.tsv.gz and dev.tsv.gz, columns sentence and label")
    parser.add_argument("--epochs", type=int, default=6, help="of the small BERT, without --model")
    parser.add_argument("--n", type=int, nargs="+", default=[4, 8], help="instances that share one pass")
    parser.add_argument("--points", type=float, default=2.0, help="accuracy that may be lost, of 100")
    parser.add_argument("--chart-steps", type=int, default=200, help="of every training of the chart")
    parser.add_argument("--steps", type=int, default=1000, help="of the one that is chosen, after those")
    parser.add_argument("--output", type=Path, default=Path("converted"), help="folder for the chart and the model")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs, args.n, args.chart_steps, args.steps, args.points = 4, [2], 2, 4, 100.0

    torch.manual_seed(0)
    train, select, report = splits(args.data, args.quick)
    if args.model:
        trained = AutoModelForSequenceClassification.from_pretrained(args.model).eval()
        tokenizer = AutoTokenizer.from_pretrained(args.model)
    else:
        trained, tokenizer = fine_tuned(train, args.quick, args.epochs)
    batches = loader(train, tokenizer, shuffle=True)
    held_out, scored = loader(select, tokenizer), loader(report, tokenizer)

    # The chart: what the model can become, and what its rivals reach in the same steps.
    quick = {"rivals": ["layers"], "timing": {"mixtures": (1,), "rounds": 1, "seconds": 0.0}} if args.quick else {}
    chart = muxwrap.frontier(
        trained, batches, held_out, n=args.n, steps=args.chart_steps, folder=args.output / "chart", **quick
    )
    print(chart)
    point = chart.best(args.points, multiplexed=True, served=False)  # int8 comes last: it cannot be trained, or saved

    # The one to take, distilled further, and scored on rows that chose nothing.
    model = chart.model(point)
    done = distill(model, batches, args.steps, teacher=trained, states=1.0, held_out=held_out)
    score = muxwrap.evaluate(model, scored, progress=False)
    before = muxwrap.evaluate(trained, scored, progress=False)
    print(f"{point.name}: accuracy {score.mean:.1%} after {before.mean:.1%}, {point.speed:.1f}x as fast")

    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    bare = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(args.output))
    loaded = muxwrap.load(args.output, bare).eval()
    return {"chart": chart, "point": point, "model": model, "loaded": loaded, "done": done, "batch": next(iter(scored))}


if __name__ == "__main__":
    main()
