"""Scores: functions of sums over rows, so that rows can be grouped in any way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.studies.text.data import Split, Task
from benchmarks.studies.text.tokenizer import Encoded

Span = tuple[str, int, int]


def spans(tags: Sequence[str]) -> set[Span]:
    """Return the entities of BIO tags as (type, first word, word after the last).

    As CoNLL's script does, an I- that continues nothing of its type begins an entity.
    """
    found, start, kind = set(), 0, ""
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if prefix == "I" and name == kind:
            continue
        if kind:
            found.add((kind, start, at))
        start, kind = at, "" if prefix == "O" else name
    return found


class Score(Protocol):
    """What is summed over rows, and the score of the sums."""

    name: str

    def counts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return what is summed, ``[rows, columns]``, of the logits of so many rows."""
        ...

    def score(self, sums: Tensor) -> float:
        """Return the score in percent of the sums ``[columns]``."""
        ...

    def extra(self, sums: Tensor) -> dict[str, float]:
        """Return further fields of the record."""
        ...


class Accuracy:
    """Columns: right answers, rows."""

    name = "accuracy"

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def counts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """``[rows, classes] -> [rows, 2]``."""
        right = (logits.argmax(-1) == self.labels[rows].to(logits.device)).float().cpu()
        return torch.stack([right, torch.ones_like(right)], dim=1)

    def score(self, sums: Tensor) -> float:
        return 100 * float(sums[0] / sums[1])

    def extra(self, sums: Tensor) -> dict[str, float]:
        return {}


class EntityF1:
    """Micro-averaged F1 of exact entities; a word without a word piece of its own counts as ``O``.

    Columns: entities right, entities predicted, entities in the data, words right, words.
    """

    name = "entity F1"

    def __init__(self, data: Encoded, split: Split, classes: Sequence[str]) -> None:
        self.places, self.tags, self.classes = data.places, split.labels, classes

    def counts(self, logits: Tensor, rows: Tensor) -> Tensor:
        """``[rows, length, classes] -> [rows, 5]``."""
        answers = logits.argmax(-1).tolist()
        return torch.tensor([self._row(answer, row) for answer, row in zip(answers, rows.tolist(), strict=True)])

    def _row(self, answer: list[int], row: int) -> list[float]:
        tags = self.tags[row]
        predicted = [self.classes[answer[place]] if place >= 0 else "O" for place in self.places[row]]
        found, gold = spans(predicted), spans(tags)
        right = sum(a == b for a, b in zip(predicted, tags, strict=True))
        return [float(x) for x in (len(found & gold), len(found), len(gold), right, len(tags))]

    def score(self, sums: Tensor) -> float:
        return 100 * float(2 * sums[0] / (sums[1] + sums[2]).clamp(min=1))

    def extra(self, sums: Tensor) -> dict[str, float]:
        return {"token_accuracy": 100 * float(sums[3] / sums[4])}


def scorer(task: Task, split: Split, data: Encoded) -> Score:
    """Return the score of a task's split."""
    return EntityF1(data, split, task.classes) if task.tagging else Accuracy(data.labels)
