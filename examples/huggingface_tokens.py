"""A token tagger of Transformers and its Trainer, with one line added.

    python examples/huggingface_tokens.py --n 2

The task: predict from a docstring in lower case how each word was written. The sentences come with Python; stdlib_text.py,
which reads them, lies in the same folder.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import numpy as np
from stdlib_text import make_tokenizer, sentences, shuffled_split
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

import muxwrap

TAGS = ("lower", "Capital", "UPPER or mixed", "no letters")


def tag(word: str) -> int:
    letters = "".join(filter(str.isalpha, word))
    if not letters:
        return 3
    return 0 if letters.islower() else 1 if letters.istitle() else 2


def compute_metrics(found: Any) -> dict[str, float]:
    counted = found.label_ids != -100
    right = np.argmax(found.predictions, axis=-1) == found.label_ids
    return {"accuracy": float(right[counted].mean())}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2, help="instances that share one pass")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--output", help="folder for the trained model; by default a temporary one")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)

    set_seed(0)
    rows = [text for module in ("_pydecimal", "typing", "logging") for text in sentences(module)]
    train, test = shuffled_split(rows, held_out=51, limit=243) if args.quick else shuffled_split(rows, held_out=151)
    tokenizer = make_tokenizer(train)

    def encode(texts: list[str]) -> list[dict[str, Any]]:
        """Tokenize words; a word's first piece has its tag, the others have -100, which the loss leaves out."""
        encoded = []
        for text in texts:
            words = text.split()
            tokens = tokenizer(words, is_split_into_words=True, truncation=True, max_length=64)
            places = tokens.word_ids()
            firsts = [place is not None and place not in places[:at] for at, place in enumerate(places)]
            labels = [tag(words[place]) if first else -100 for place, first in zip(places, firsts, strict=True)]
            encoded.append({"text": text, **tokens, "labels": labels})
        return encoded

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=len(TAGS), **sizes)
    model = BertForTokenClassification(config)
    model = muxwrap.wrap(model, n=args.n)  # the one line

    with tempfile.TemporaryDirectory() as temporary:
        output = args.output or temporary
        arguments = TrainingArguments(
            output,
            num_train_epochs=min(args.epochs, 2) if args.quick else args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            learning_rate=args.lr,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=encode(train),
            eval_dataset=encode(test),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            processing_class=tokenizer,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
        predicted = trainer.predict(trainer.eval_dataset)
        model.save_pretrained(output)
    print(f"eval_loss {metrics['eval_loss']:.4f}  eval_accuracy {metrics['eval_accuracy']:.3f}")
    return {"model": model, "trainer": trainer, "metrics": metrics, "predicted": predicted}


if __name__ == "__main__":
    main()
