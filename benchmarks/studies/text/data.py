"""The tasks, read from their publishers' files: texts, labels, and three splits each.

``train`` is trained on, ``select`` chooses epoch and learning rate, ``report`` is scored once at the end. Rows of SNLI
without a gold label (-1) are left out. Where only two files exist, every tenth training row goes to ``select``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Text = tuple[str, ...]  # a sentence, a pair of them, or the words of a sentence to tag
NLI = ("entailment", "neutral", "contradiction")
SNLI_TRAIN = {"1": 1, "2": 2, "3": 0}  # the training file's own coding: 1 neutral, 2 contradiction, 3 entailment
MNLI_PROMPT = re.compile(
    r'^For the statement, "(.*)", does the hypothesis "(.*)" represent entailment, contradiction, or neutrality\?$',
    re.DOTALL,
)


class Split(NamedTuple):
    """Examples: texts, and for each a class, or for tagging a tag for every word."""

    texts: list[Text]
    labels: list[Any]

    def rows(self, numbers: slice | list[int]) -> Split:
        chosen = range(len(self.texts))[numbers] if isinstance(numbers, slice) else numbers
        return Split([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])


class Task(NamedTuple):
    name: str
    classes: tuple[str, ...]
    tagging: bool
    train: Split
    select: Split
    report: Split
    reported: str  # name of the reported split


def sst2(folder: Path) -> Task:
    def tsv(name: str) -> Split:
        lines = (line.rpartition("\t") for line in _lines(folder / name)[1:])
        return _split(((text,), int(label)) for text, _, label in lines)

    test = (line.partition(" ") for line in _lines(folder / "stsa.binary.test.gz"))
    report = _split(((_brackets(text),), int(label)) for label, _, text in test)
    return Task("sst2", ("negative", "positive"), False, tsv("train.tsv.gz"), tsv("dev.tsv.gz"), report, "test")


def snli(folder: Path) -> Task:
    def labelled(name: str) -> Split:
        rows = _csv(folder / name)
        return _split(((r["premise"], r["hypothesis"]), int(r["label"])) for r in rows if r["label"] != "-1")

    lines = (line.split("\t") for line in _lines(folder / "train_18000.tsv.gz"))
    train = _split(((premise, hypothesis), SNLI_TRAIN[label]) for label, _, premise, hypothesis in lines)
    return Task("snli", NLI, False, train, labelled("dev.csv.gz"), labelled("test.csv.gz"), "test")


def mnli(folder: Path) -> Task:
    prompts = ((MNLI_PROMPT.match(r["Question"]), r["Answer"]) for r in _csv(folder / "train_10k_prompted.csv.gz"))
    rows = _split((match.groups(), NLI.index(label)) for match, label in prompts if match is not None)
    found = map(json.loads, _lines(folder / "dev_matched.jsonl.gz"))
    report = _split(((r["premise"], r["hypothesis"]), NLI.index(r["label"])) for r in found)
    return Task("mnli", NLI, False, *_tenth_apart(rows), report, "dev_matched")


def qnli(folder: Path) -> Task:
    def pairs(name: str) -> Split:
        return _split(((r["text1"], r["text2"]), int(r["label"])) for r in _csv(folder / name))

    classes = ("entailment", "not entailment")
    return Task("qnli", classes, False, *_tenth_apart(pairs("train_tail_4976.csv.gz")), pairs("dev.csv.gz"), "dev")


def wnut17(folder: Path) -> Task:
    names = ("wnut17train.conll.gz", "emerging.dev.conll.gz", "emerging.test.annotated.gz")
    train, select, report = (conll(_lines(folder / name)) for name in names)
    return Task("wnut17", _tags(train, select, report), True, train, select, report, "test")


def btc(folder: Path) -> Task:
    """Broad Twitter Corpus; its publishers do not split it, this split goes by its sections."""

    def sections(names: str) -> Split:
        found = [conll(_lines(folder / f"{name}.conll.gz")) for name in names]
        return Split(*([each for section in found for each in section[k]] for k in (0, 1)))

    train, select, report = sections("bfg"), sections("ae"), sections("h")
    return Task("btc", _tags(train, select, report), True, train, select, report, "section h")


TASKS: dict[str, Callable[[Path], Task]] = {f.__name__: f for f in (sst2, snli, wnut17, mnli, qnli, btc)}


def load(name: str, data: Path, limit: int | None = None) -> Task:
    """Read a task from its folder of ``data``; ``limit`` keeps so many of its training rows; the other splits stay whole."""
    task = TASKS[name](data / name)
    return task._replace(train=task.train.rows(slice(limit)))


def articles(folder: Path) -> list[str]:
    """Return WikiText-2's training articles, or what its cells hold of them."""
    with zipfile.ZipFile(folder / "wikitext-2-train-articles.zip") as archive:
        name = next(each for each in archive.namelist() if each.endswith("wiki.train.tokens"))
        raw = archive.read(name).decode()
    csv.field_size_limit(2**31 - 1)
    return [cell for row in csv.reader(io.StringIO(raw, newline="")) for cell in row]


def wikitext(data: Path) -> list[Text]:
    """Return WikiText-2's training lines without the headings, for a warm-up without a task's text."""
    lines = (line.strip() for article in articles(data / "wikitext-2") for line in article.split("\n"))
    return [(line,) for line in lines if line and not line.startswith("=")]


def conll(lines: Iterable[str]) -> Split:
    """Read ``word<TAB>tag`` lines; sentences end at blank ones."""
    sentences: list[list[tuple[str, str]]] = [[]]
    for line in lines:
        word, _, tag = line.rstrip().rpartition("\t")
        if tag:
            sentences[-1].append((word, tag))
        elif sentences[-1]:
            sentences.append([])
    return _split((tuple(w for w, _ in s), [t for _, t in s]) for s in sentences if s)


def _tags(*splits: Split) -> tuple[str, ...]:
    """Return every tag that occurs, ``O`` first."""
    return ("O", *sorted({tag for split in splits for tags in split.labels for tag in tags} - {"O"}))


def _tenth_apart(split: Split) -> tuple[Split, Split]:
    """Return nine of ten rows to train on and every tenth to select by."""
    tenth = range(0, len(split.texts), 10)
    return split.rows([i for i in range(len(split.texts)) if i % 10]), split.rows(list(tenth))


def _split(rows: Iterable[tuple[Any, Any]]) -> Split:
    pairs = list(rows)
    return Split([tuple(text) for text, _ in pairs], [label for _, label in pairs])


def _brackets(text: str) -> str:
    """Write the test file's ``-lrb-`` and ``-rrb-`` as the training file does."""
    return text.replace("-lrb-", "(").replace("-rrb-", ")")


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\r\n") for line in file]


def _csv(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
