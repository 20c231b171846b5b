"""Training and scoring of the text models: one way for every configuration."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.studies.common.cells import Progress
from benchmarks.studies.common.groupings import SELECTION
from benchmarks.studies.common.models import device_of, instances
from benchmarks.studies.common.recipe import Recipe, taught_loss, train
from benchmarks.studies.text.batches import batches_for, rows_for
from benchmarks.studies.text.groupings import count, over_groupings
from benchmarks.studies.text.scores import Score
from benchmarks.studies.text.tokenizer import Encoded
from muxwrap.training import warm_up


def recipe(epochs: int, mixtures: int, seed: int, lr: float = 1e-3, crosstalk: float = 1) -> Recipe:
    """Return the study's recipe."""
    return Recipe(
        epochs=epochs,
        mixtures=mixtures,
        least_rows=32,
        seed=seed,
        lr=lr,
        decay=0.01,
        rise=0.1,
        clip=1.0,
        crosstalk=crosstalk,
    )


class Trained(NamedTuple):
    state: dict[str, Tensor]  # of the best epoch
    epoch: int
    selected: float  # its score on the selection split


def retrieve(model: nn.Module, data: Encoded, select: Encoded, how: Recipe, steps: int, lr: float) -> dict[str, Any]:
    """Warm the model up in place by naming tokens; a bare model is wrapped with n = 1 for that."""
    wrapped = model if isinstance(model, muxwrap.Multiplex) else muxwrap.wrap(model, n=1)
    done = warm_up(
        wrapped,
        batches_for(wrapped, data, how),
        steps,
        held_out=list(batches_for(wrapped, select, how))[:8],
        every=steps,
        optimizer=lambda parameters: replace(how, lr=lr).optimizer(parameters, model),
        seed=how.seed,
        progress=False,
    )
    if wrapped is not model:
        muxwrap.unwrap(wrapped)
    assert done.accuracy is not None and done.per_index is not None
    return {"retrieval": 100 * done.accuracy, "retrieval_per_index": [round(100 * x, 2) for x in done.per_index]}


def fit(
    model: nn.Module,
    data: Encoded,
    select: Encoded,
    score: Score,
    how: Recipe,
    progress: Progress,
    answers: Tensor | None = None,
) -> Trained:
    """Train the model, and return the epoch that is best on the selection split.

    Args:
        model: trained in place.
        data: the training rows.
        select: the selection split.
        score: of the selection split.
        how: the recipe.
        progress: shows a line.
        answers: a teacher's log-probabilities for all training rows, ``[rows, classes]``.
    """

    def loss_of(rows: Tensor) -> Tensor:
        output = model(**data.batch(rows, device))
        taught = None if answers is None else answers[rows].to(device)
        return taught_loss(output.loss, output.logits, taught)

    torch.manual_seed(how.seed)
    device = device_of(model)
    best: Trained | None = None
    optimizer = how.optimizer(model.parameters(), model)
    for epoch in train(model, rows_for(model, data, how), loss_of, optimizer, how, progress):
        selected = score.score(counts(model, select, score, how, SELECTION)[0].sum(0))
        if best is None or selected > best.selected:
            best = Trained(copy.deepcopy(model.state_dict()), epoch, selected)
    assert best is not None
    return best


def answer(model: nn.Module, data: Encoded, rows: Tensor) -> Tensor:
    """Return the model's logits of rows."""
    batch = data.batch(rows, device_of(model))
    del batch["labels"]
    return model(**batch).logits


def counts(model: nn.Module, data: Encoded, score: Score, how: Recipe, grouping: int) -> tuple[Tensor, Tensor]:
    """Return every row's counts under one random grouping, and the index that the row had in its mixture."""
    return count(model, rows_for(model, data, how, seed=grouping), partial(answer, model, data), score)


def evaluate(model: nn.Module, data: Encoded, score: Score, how: Recipe) -> dict[str, Any]:
    """Return the score over random groupings of all rows, and per index."""
    return over_groupings(instances(model), partial(counts, model, data, score, how), score)
