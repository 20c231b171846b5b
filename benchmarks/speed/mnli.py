"""19,815 real sentence pairs grouped by length, against the bare model with dynamic padding and length sorting."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

import muxwrap
from benchmarks.speed.bound import Progress, bert
from muxwrap.samplers import LengthBatches, pad_batch

TEMPLATE = re.compile(
    r'^For the statement, "(.*)", does the hypothesis "(.*)" represent entailment, contradiction, or neutrality\?$',
    re.S,
)
TURNS = 12  # the data are cut into so many slices of like length; bare and multiplexed take turns on them
LONGEST = 128


def mnli(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Every pair once through either model, 12 layers, d=768, N=40."""
    if args.data is None:
        progress("mnli is left out: it needs --data")
        return []
    rows = _pairs(args.data, progress)
    lengths = [len(row["input_ids"]) for row in rows]
    bare = bert().eval()
    model = muxwrap.wrap(bert(), 40, example_input=pad_batch(rows[:2])).eval()
    batches = {"bare": list(LengthBatches(lengths, 8)), "n=40": list(LengthBatches(lengths, 320))}
    seconds = {"bare": 0.0, "n=40": 0.0}
    instances = {"bare": 0, "n=40": 0}
    for turn in range(TURNS):
        order = [("bare", bare), ("n=40", model)]
        for name, each in order if turn % 2 == 0 else reversed(order):
            progress(f"slice {turn + 1} of {TURNS}, {name}")
            own = batches[name][len(batches[name]) * turn // TURNS : len(batches[name]) * (turn + 1) // TURNS]
            took, count = _run(each, rows, own)
            seconds[name] += took
            instances[name] += count
    labels = {
        "study": "mnli",
        "backbone": "BERT 12x768",
        "dataset": "MNLI dev_matched + 10,000 of train",
        "dtype": "float32",
    }
    return [
        {
            **labels,
            "name": name,
            "n": 1 if name == "bare" else 40,
            "rows": len(batches[name][0]),
            "instances": instances[name],
            "mean_length": sum(lengths) / len(lengths),
            "instances_per_second": instances[name] / seconds[name],
            "ratio_to_bare": seconds["bare"] / seconds[name],
            "bound": 1 if name == "bare" else 40,
        }
        for name in seconds
    ]


@torch.inference_mode()
def _run(model: torch.nn.Module, rows: list[dict[str, Any]], batches: list[list[int]]) -> tuple[float, int]:
    """Return the seconds that batches took, collating included, and the number of their instances."""
    model(**pad_batch([rows[i] for i in batches[0]]))  # warm-up at this slice's length
    start, count = time.perf_counter(), 0
    for batch in batches:
        logits: Tensor = model(**pad_batch([rows[i] for i in batch])).logits
        count += len(logits)
    return time.perf_counter() - start, count


def _pairs(folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Return word pieces of every pair, 128 at most."""
    progress("tokenising the pairs")
    with gzip.open(folder / "mnli/dev_matched.jsonl.gz", "rt") as lines:
        found = [(row["premise"], row["hypothesis"]) for row in map(json.loads, lines)]
    with gzip.open(folder / "mnli/train_10k_prompted.csv.gz", "rt", newline="") as file:
        matches = [TEMPLATE.match(row["Question"]) for row in csv.DictReader(file)]
    found += [(match[1], match[2]) for match in matches if match]
    words = gzip.decompress((folder / "vocab/bert-base-uncased-vocab.txt.gz").read_bytes()).decode().splitlines()
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(words)}, lowercase=True)
    tokenizer.enable_truncation(LONGEST)
    return [{"input_ids": e.ids, "token_type_ids": e.type_ids} for e in tokenizer.encode_batch(found)]
