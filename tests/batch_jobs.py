"""Files of rows, a tokenizer and models for batch inference, made from code; shared by its tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import texts
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

import muxwrap
from muxwrap import Multiplex

WORDS = [f"w{number}" for number in range(50)]


def tokenizer() -> PreTrainedTokenizerFast:
    """A token per word."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: 10 + at for at, word in enumerate(WORDS)}}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16, padding_side="right"
    )


def text_model(n: int = 2, task: str = "sequence", seed: int = 0) -> Multiplex:
    """A tiny wrapped BERT."""
    return muxwrap.wrap(texts.tiny(task, "bert"), n, seed=seed).eval()


def sentences(rows: int, seed: int = 0) -> list[str]:
    """Sentences of 1 to 9 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(rows)]


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write a table in the format that the path's ending tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    else:
        quoted = [",".join(f'"{value}"' for value in row.values()) for row in rows]
        path.write_text("\n".join([",".join(columns), *quoted]) + "\n")
    return path


def answers(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of a folder of answers by their keys, each of which stands once."""
    rows = pq.read_table(out).to_pylist()
    found = {row["key"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Equal keys, errors and answers."""
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        assert found[key]["error"] == row["error"]
        assert found[key].keys() == row.keys()
        if row["error"] is None:
            (name,) = row.keys() & {"answer", "logits"}
            torch.testing.assert_close(torch.tensor(found[key][name]), torch.tensor(row[name]))
