"""Three measures of a cell: retrieval after a fixed number of steps, steps until 90 % of retrieval, and a real task.

The first two name the words of unseen WikiText-2 sequences; the third is SST-2, trained from scratch with the functions
of the text study. The learning rate of retrieval rises and then stays, so that a step means the same however many
follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification, BertModel

import muxwrap
from benchmarks.studies.ablations.studies import Cell
from benchmarks.studies.common.recipe import Recipe
from benchmarks.studies.text.batches import batches_for
from benchmarks.studies.text.data import Task, load
from benchmarks.studies.text.models import Sizes, config
from benchmarks.studies.text.retrieval import encode, words_of
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.tokenizer import VOCABULARY, Encoded, WordPieces
from benchmarks.studies.text.training import evaluate, fit, recipe
from muxwrap import demuxers, strategies
from muxwrap.training import WarmUp, retrieval_accuracy, retrieval_head, start_apart, warm_up

TARGET = 0.9
RISE = 30  # steps
WATCHED = 512  # unseen sequences that decide when the target is reached; the final accuracy is over all of them


class Settings(NamedTuple):
    """What all cells have in common; it is a field of every record."""

    steps: int = 200
    limit: int = 1500
    mixtures: int = 16
    lr: float = 2e-3
    words: int = 2000
    task_mixtures: int = 32
    task_lr: float = 1e-3
    task_rows: int | None = None
    task_pieces: int = 8000
    epochs: int = 2


SETTINGS = {
    "steps": "steps of retrieval",
    "limit": "steps at most until 90 %% of retrieval",
    "mixtures": "mixtures per step of retrieval",
    "lr": "learning rate of retrieval, also before the task",
    "words": "most frequent words of WikiText-2 that are kept",
    "task_mixtures": "mixtures per step of the task",
    "task_lr": "learning rate of the task",
    "task_rows": "training rows of SST-2 at most",
    "task_pieces": "most frequent word pieces of SST-2 that are kept",
    "epochs": "epochs of the task",
}
"""What each setting means, for ``--help``."""


class Data:
    """What the measures read, loaded when a measure first needs it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """Training and unseen sequences of word ids."""
        return encode(*words_of(self.folder / "wikitext-2"), self.settings.words)

    @cached_property
    def task(self) -> tuple[Task, int, tuple[Encoded, ...]]:
        """SST-2, its number of word pieces, and its three splits."""
        task = load("sst2", self.folder, self.settings.task_rows)
        encoder = WordPieces(self.folder / VOCABULARY, task.train.texts, self.settings.task_pieces, False)
        return task, encoder.size, tuple(encoder.split(s, task.classes) for s in (task.train, task.select, task.report))


def model_of(cell: Cell, seed: int, vocabulary: int, classes: int | None = None) -> muxwrap.Multiplex:
    """Return the untrained model of a cell: BERT without a head, or one that classifies."""
    torch.manual_seed(seed)
    made = config(Sizes(cell.layers, cell.width, cell.heads, vocabulary), num_labels=classes or 2)
    backbone = BertForSequenceClassification(made) if classes else BertModel(made, add_pooling_layer=False)
    options = {name: value for name in ("scale", "learnable") if (value := getattr(cell, name)) is not None}
    strategy = partial(strategies.registry.get(cell.strategy), **options)
    layer = f"{'bert.' * bool(classes)}encoder.layer.{cell.mixed_after - 1}"
    demux = partial(demuxers.registry.get(cell.demux), **{} if cell.centered else {"center_gradients": False})
    model = muxwrap.wrap(backbone, cell.n, strategy, demux, mux_at=layer if cell.mixed_after else None, seed=seed)
    if cell.apart:
        start_apart(model)
    return model


def retrieve(cell: Cell, seed: int, data: Data, steps: int, **stop: Any) -> tuple[muxwrap.Multiplex, WarmUp]:
    """Train a cell to name words, and watch it on some of the unseen ones."""
    settings, (train, unseen) = data.settings, data.words
    model = model_of(cell, seed, settings.words)
    rows = settings.mixtures * cell.n
    batches = DataLoader(train, rows, shuffle=True, drop_last=True)
    watched = unseen[:WATCHED].split(rows)
    done = warm_up(
        model, batches, steps, lr=settings.lr, held_out=watched, scheduler=steady, seed=seed, progress=False, **stop
    )
    return model, done


def retrieval(cell: Cell, seed: int, data: Data) -> dict[str, Any]:
    """Accuracy over all unseen words after a fixed number of steps."""
    steps = data.settings.steps
    model, done = retrieve(cell, seed, data, steps, every=steps)
    unseen = data.words[1]
    found = retrieval_accuracy(model, done.head, unseen.split(data.settings.mixtures * cell.n))
    return {
        "metric": f"retrieval accuracy after {steps} steps, %",
        "mean": 100 * found.accuracy,
        "per_index": [round(100 * each, 2) for each in found.per_index],
        "scored": found.positions,
        "always_the_most_frequent": 100 * (unseen.flatten().bincount().max() / unseen.numel()).item(),
    }


def converge(cell: Cell, seed: int, data: Data) -> dict[str, Any]:
    """Steps until 90 % of the watched words are named; None where the limit came first."""
    _, done = retrieve(cell, seed, data, data.settings.limit, every=25, target=TARGET)
    reached = (done.accuracy or 0) >= TARGET
    curve = [[each.step, round(100 * (each.held_out or 0), 2)] for each in done.history]
    return {
        "metric": f"steps to {100 * TARGET:.0f} % retrieval",
        "mean": done.steps if reached else None,
        "curve": curve,
    }


def task(cell: Cell, seed: int, data: Data) -> dict[str, Any]:
    """Accuracy on SST-2's test split over random groupings, the epoch chosen on the development split."""
    settings, (task, vocabulary, (train, select, report)) = data.settings, data.task
    model = model_of(cell, seed, vocabulary, len(task.classes))
    how = recipe(settings.epochs, settings.task_mixtures, seed, settings.task_lr)
    warmed = (
        {"retrieval_after_warm_up": warmed_up(model, cell, train, select, how, settings.lr)} if cell.warm_up else {}
    )
    best = fit(model, train, select, scorer(task, task.select, select), how, lambda _: None)
    model.load_state_dict(best.state)
    labels = task.report.labels
    return {
        "metric": "SST-2 accuracy, %",
        **evaluate(model, report, scorer(task, task.report, report), how),
        **warmed,
        "selected": best.selected,
        "always_the_most_frequent": 100 * max(map(labels.count, set(labels))) / len(labels),
    }


def warmed_up(model: muxwrap.Multiplex, cell: Cell, train: Encoded, select: Encoded, how: Recipe, lr: float) -> float:
    """Warm the model up on the task's texts, and return its retrieval on the selection split in percent."""
    found = warm_up(
        model,
        batches_for(model, train, how),
        cell.warm_up,
        lr=lr,
        head=retrieval_head(model, demuxer=cell.retrieval, seed=how.seed),  # type: ignore[arg-type]
        held_out=list(batches_for(model, select, how)),
        every=cell.warm_up,
        scheduler=steady,
        seed=how.seed,
        progress=False,
    )
    assert found.accuracy is not None
    return 100 * found.accuracy


def steady(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Raise the learning rate over the first steps and leave it there."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / RISE))


MEASURES: dict[str, Callable[[Cell, int, Data], dict[str, Any]]] = {
    "retrieval": retrieval,
    "converge": converge,
    "task": task,
}


def measured(measure: str, cell: Cell, seed: int, data: Data) -> dict[str, Any]:
    """Return the record of a cell, without its key."""
    start = time.perf_counter()
    found = MEASURES[measure](cell, seed, data)
    text = measure != "task"
    return {
        "measure": measure,
        "backbone": f"BERT {cell.layers}x{cell.width}",
        "dataset": "WikiText-2" if text else "SST-2",
        "split": "validation" if text else "test",
        **asdict(cell),
        "seed": seed,
        "std": None,
        "groupings": None,
        "seeds": 1,
        "always_the_most_frequent": None,
        "epochs": None if text else data.settings.epochs,
        "instances_per_second": None,
        "ratio_to_bare": None,
        **found,
        "settings": data.settings._asdict(),
        "seconds": round(time.perf_counter() - start, 1),
    }
