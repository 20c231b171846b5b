"""Three measures of a cell: retrieval after a fixed number of steps, steps until 90 % of retrieval, and a real task.

The first two name the words of unseen WikiText-2 sequences; the third is SST-2, trained from scratch with the functions
of benchmarks/studies/text. The learning rate rises and then stays in all retrieval, so that a step means the same however many
follow.
"""

from __future__ import annotations

import math
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
from transformers import BertConfig, BertForSequenceClassification, BertModel

import muxwrap
from benchmarks.studies.ablations.studies import Cell
from benchmarks.studies.text.data import load
from benchmarks.studies.text.pieces import LENGTH as LONGEST
from benchmarks.studies.text.pieces import Encoded, Pieces
from benchmarks.studies.text.retrieval import encode, words_of
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.training import Recipe, evaluate, fit
from muxwrap import demuxers, strategies
from muxwrap.training import WarmUp, retrieval_accuracy, retrieval_head, start_apart, warm_up

TARGET = 0.9
RISE = 30  # steps
WATCHED = 512  # unseen sequences that tell when the target is reached; the final accuracy is over all of them
VOCABULARY = Path("vocab") / "bert-base-uncased-vocab.txt.gz"


class Settings(NamedTuple):
    """What all cells have in common: what is kept with every record."""

    steps: int = 200  # of retrieval
    limit: int = 1500  # steps at most, where 90 % are to be reached
    mixtures: int = 16  # of a retrieval step without a task
    lr: float = 2e-3  # of retrieval, also before the task
    words: int = 2000
    task_mixtures: int = 32
    task_lr: float = 1e-3
    task_rows: int | None = None  # of SST-2's training rows; None: all
    task_pieces: int = 8000
    epochs: int = 2


class Data:
    """What the measures read, when they first need it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """Training and unseen sequences of word ids."""
        return encode(*words_of(self.folder / "wikitext-2"), self.settings.words)

    @cached_property
    def task(self) -> tuple[Any, int, tuple[Encoded, ...]]:
        """SST-2, its number of word pieces, and its three splits."""
        task = load("sst2", self.folder, self.settings.task_rows)
        pieces = Pieces(self.folder / VOCABULARY, task.train.texts, self.settings.task_pieces, False)
        return task, pieces.size, tuple(pieces.split(s, task.classes) for s in (task.train, task.select, task.report))


def model_of(cell: Cell, seed: int, vocabulary: int, classes: int | None = None) -> muxwrap.Multiplex:
    """Return the untrained model of a cell: BERT without a head, or one that classifies."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=cell.width,
        num_hidden_layers=cell.layers,
        num_attention_heads=cell.heads,
        intermediate_size=4 * cell.width,
        max_position_embeddings=LONGEST,
        num_labels=classes or 2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.02 * math.sqrt(768 / cell.width),  # BERT's, at this width
    )
    backbone = BertForSequenceClassification(config) if classes else BertModel(config, add_pooling_layer=False)
    options = {name: value for name in ("scale", "learnable") if (value := getattr(cell, name)) is not None}
    strategy = partial(strategies.registry.get(cell.strategy), **options)
    layer = f"{'bert.' * bool(classes)}encoder.layer.{cell.mixed_after - 1}"
    demux = partial(demuxers.registry.get(cell.demux), **{} if cell.centered else {"center_gradients": False})
    model = muxwrap.wrap(backbone, cell.n, strategy, demux, mux_at=layer if cell.mixed_after else None, seed=seed)
    if cell.apart:
        start_apart(model)
    return model


def retrieve(cell: Cell, seed: int, data: Data, steps: int, **stop: Any) -> tuple[muxwrap.Multiplex, WarmUp]:
    """Train a cell to name words, watching a part of the unseen ones."""
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
    settings, (task, pieces, (train, select, report)) = data.settings, data.task
    model = model_of(cell, seed, pieces, len(task.classes))
    recipe = Recipe(settings.epochs, settings.task_mixtures, seed, torch.device("cpu"))
    warmed = {}
    if cell.warm_up:
        head = retrieval_head(model, demuxer=cell.retrieval, seed=seed)  # type: ignore[arg-type]
        held_out = list(recipe.batches(select, cell.n))
        batches = recipe.batches(train, cell.n)
        found = warm_up(
            model,
            batches,
            cell.warm_up,
            lr=settings.lr,
            head=head,
            held_out=held_out,
            every=cell.warm_up,
            scheduler=steady,
            seed=seed,
            progress=False,
        )
        assert found.accuracy is not None
        warmed = {"retrieval_after_warm_up": 100 * found.accuracy}
    best = fit(model, train, select, scorer(task, task.select, select), recipe, settings.task_lr, lambda _: None)
    model.load_state_dict(best.state)
    scored = evaluate(model, report, scorer(task, task.report, report), recipe)
    chance = 100 * max(task.report.labels.count(each) for each in set(task.report.labels)) / len(task.report.labels)
    return {
        "metric": "SST-2 accuracy, %",
        **scored,
        **warmed,
        "selected": best.selected,
        "always_the_most_frequent": chance,
    }


def steady(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Raise the learning rate over the first steps and leave it there."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / RISE))


MEASURES: dict[str, Callable[[Cell, int, Data], dict[str, Any]]] = {
    "retrieval": retrieval,
    "converge": converge,
    "task": task,
}


def measured(measure: str, cell: Cell, seed: int, data: Data) -> dict[str, Any]:
    """Return the record of a cell."""
    start = time.perf_counter()
    found = MEASURES[measure](cell, seed, data)
    text = measure != "task"
    return {
        "cell": cell.key(measure, seed),
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
