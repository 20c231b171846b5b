"""The tasks: texts and labels to train on, to select by, and to report, read from their publishers' files.

SNLI and SST-2 have three splits. IMDb's selection split lies in its training part, and every tenth row of MNLI's. QNLI has one
labelled held-out split, of which every third row is selected by and the others are reported.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from benchmarks.studies.text import data
from benchmarks.studies.text.data import Split, Task

LENGTHS = {"snli": 64, "qnli": 128, "imdb": 256, "sst2": 64, "mnli": 128}  # word pieces at most; longer texts are cut


def imdb(folder: Path) -> Task:
    """Reviews, with the label before the text."""

    def tsv(name: str) -> Split:
        with gzip.open(folder / name, "rt", encoding="utf-8", newline="\n") as file:
            rows = [line.rstrip("\n").split("\t", 1) for line in file]
        return Split([(text,) for _, text in rows], [int(label) for label, _ in rows])

    splits = (tsv(name) for name in ("train_10000.tsv.gz", "dev_2000.tsv.gz", "test_5000.tsv.gz"))
    return Task("imdb", ("negative", "positive"), False, *splits, "test")


def qnli(folder: Path) -> Task:
    """All of the training rows, and the held-out ones in two parts."""
    task = data.qnli(folder)
    held_out = task.report
    third = [i % 3 == 0 for i in range(len(held_out.texts))]
    select = held_out.rows([i for i, chosen in enumerate(third) if chosen])
    report = held_out.rows([i for i, chosen in enumerate(third) if not chosen])
    # The rows that its reader sets apart go back among those that are trained on.
    train = Split(task.train.texts + task.select.texts, task.train.labels + task.select.labels)
    return Task("qnli", task.classes, False, train, select, report, "two thirds of dev")


TASKS: dict[str, Callable[[Path], Task]] = {
    "snli": data.snli,
    "qnli": qnli,
    "imdb": imdb,
    "sst2": data.sst2,
    "mnli": data.mnli,
}
