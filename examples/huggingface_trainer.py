"""A sentence classifier of Transformers and its Trainer, with one line added.

    python examples/huggingface_trainer.py --n 2                   # sentences that come with Python
    python examples/huggingface_trainer.py --n 2 --data FOLDER     # SST-2: train.tsv.gz and dev.tsv.gz

The task without a folder: does a sentence come from the docstrings of the module decimal or from those of typing?
stdlib_text.py, which reads them, lies in the same folder.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from stdlib_text import make_tokenizer, sentences, shuffled_split
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import muxwrap

MODULES = ("_pydecimal", "typing")
Rows = list[tuple[str, int]]


def splits(data: Path | None, quick: bool) -> tuple[Rows, Rows]:
    """Return texts with labels to train on and to evaluate on."""
    if data is not None:
        return read(data / "train.tsv.gz")[: 400 if quick else None], read(data / "dev.tsv.gz")
    rows = [(text, label) for label, module in enumerate(MODULES) for text in sentences(module)]
    return shuffled_split(rows, held_out=51, limit=243) if quick else shuffled_split(rows, held_out=151)


def read(path: Path) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], int(row["label"])) for row in rows]


def compute_metrics(found: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(found.predictions, axis=-1) == found.label_ids).mean())}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2, help="instances that share one pass")
    parser.add_argument("--data", type=Path, help="folder with SST-2's files, gzipped")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--output", help="folder for checkpoints and the trained model; by default a temporary one")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --output")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)

    set_seed(0)
    train, test = splits(args.data, args.quick)
    tokenizer = make_tokenizer((text for text, _ in train), size=2000 if args.data is None else 8000)

    def encode(rows: Rows) -> list[dict[str, Any]]:
        # The Trainer drops the column text, which is not an argument of the model's forward.
        return [{"text": text, **tokenizer(text, truncation=True, max_length=64), "label": y} for text, y in rows]

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=len(MODULES), **sizes)
    model = BertForSequenceClassification(config)
    model = muxwrap.wrap(model, n=args.n)  # the one line

    with tempfile.TemporaryDirectory() as temporary:
        output = args.output or temporary
        arguments = TrainingArguments(
            output,
            num_train_epochs=min(args.epochs, 4) if args.quick else args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            learning_rate=args.lr,
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=encode(train),
            eval_dataset=encode(test),
            processing_class=tokenizer,
            compute_metrics=compute_metrics,
        )
        trainer.train(resume_from_checkpoint=args.resume)
        metrics = trainer.evaluate()
        predicted = trainer.predict(trainer.eval_dataset)
        model.save_pretrained(output)
    print(f"eval_loss {metrics['eval_loss']:.4f}  eval_accuracy {metrics['eval_accuracy']:.3f}")
    return {"model": model, "trainer": trainer, "metrics": metrics, "predicted": predicted}


if __name__ == "__main__":
    main()
