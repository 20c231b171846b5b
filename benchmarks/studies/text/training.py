"""One training function for every configuration, and scoring that leaves no example out."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.studies.text.pieces import Encoded
from benchmarks.studies.text.scores import Score
from muxwrap.samplers import LengthBatches
from muxwrap.training import damp_crosstalk, distillation, warm_up

GROUPINGS = 5
LEAST_ROWS = 32  # of a batch, also for a small n
TAUGHT = 0.5  # share of the teacher's answers in the loss, where there is one
SELECTION = 1_000_000  # seed of the one grouping that chooses the epoch; those that are reported have others


class Batches:
    """Batches of like length. Inside a batch the order is random, so that an instance's companions and its index are."""

    def __init__(self, data: Encoded, rows: int, seed: int, device: torch.device) -> None:
        self.data, self.device = data, device
        self.sampler = LengthBatches(data.lengths.tolist(), rows, shuffle=True, seed=1000 * seed)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def rows(self) -> Iterator[Tensor]:
        """Yield the row numbers of one epoch's batches; every call is another epoch."""
        self.sampler.set_epoch(self.epoch)
        rng = torch.Generator().manual_seed(self.sampler.seed + self.epoch)
        self.epoch += 1
        for batch in self.sampler:
            rows = torch.tensor(batch)
            yield rows[torch.randperm(len(rows), generator=rng)]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self.data.batch(rows, self.device) for rows in self.rows())


class Recipe(NamedTuple):
    """How a cell is trained: ``mixtures`` of a step, but at least 32 rows; ``crosstalk`` is a rate to learn it at."""

    epochs: int
    mixtures: int
    seed: int
    device: torch.device
    crosstalk: float = 1

    def batches(self, data: Encoded, n: int, seed: int | None = None) -> Batches:
        rows = n * max(self.mixtures if n > 1 else 1, math.ceil(LEAST_ROWS / n))
        return Batches(data, rows, self.seed if seed is None else seed, self.device)

    def optimizer(self, parameters: Iterable[nn.Parameter], model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Return AdamW, which damps crosstalk where the recipe does: of the task and of a warm-up before it."""
        made = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, fused=True)
        if self.crosstalk != 1:
            damp_crosstalk(made, model, self.crosstalk)  # type: ignore[arg-type]
        return made


class Trained(NamedTuple):
    state: dict[str, Tensor]  # of the best epoch
    epoch: int
    selected: float  # its score on the selection split


def retrieve(model: nn.Module, data: Encoded, select: Encoded, recipe: Recipe, steps: int, lr: float) -> dict[str, Any]:
    """Warm the model up in place by naming tokens; a bare model does so as one wrapped with n = 1."""
    wrapped = model if isinstance(model, muxwrap.Multiplex) else muxwrap.wrap(model, n=1)
    held_out = list(recipe.batches(select, wrapped.n))[:8]
    batches = recipe.batches(data, wrapped.n)

    def made(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return recipe.optimizer(parameters, model, lr)

    done = warm_up(
        wrapped, batches, steps, held_out=held_out, every=steps, optimizer=made, seed=recipe.seed, progress=False
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
    recipe: Recipe,
    lr: float,
    tell: Callable[[str], object],
    answers: Tensor | None = None,
) -> Trained:
    """Train with AdamW and one cycle of the learning rate, and keep the epoch that is best on the selection split.

    ``answers`` are a teacher's log-probabilities for all rows, which then are half of what is learned.
    """
    torch.manual_seed(recipe.seed)
    batches = recipe.batches(data, getattr(model, "n", 1))
    optimizer = recipe.optimizer(model.parameters(), model, lr)
    steps = len(batches) * recipe.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    best: Trained | None = None
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        for at, rows in enumerate(batches.rows()):
            output = model(**data.batch(rows, recipe.device))
            loss = output.loss
            if answers is not None:
                taught = distillation(output.logits, answers[rows].to(recipe.device))
                loss = (1 - TAUGHT) * loss + TAUGHT * taught
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if at % 50 == 0:
                tell(f"lr {lr:g}, epoch {epoch}, {at}/{len(batches)}")
        selected = score.score(counts(model, select, score, recipe, SELECTION)[0].sum(0))
        if best is None or selected > best.selected:
            best = Trained(copy.deepcopy(model.state_dict()), epoch, selected)
    assert best is not None
    return best


@torch.inference_mode()
def counts(model: nn.Module, data: Encoded, score: Score, recipe: Recipe, grouping: int) -> tuple[Tensor, Tensor]:
    """Return every row's columns under one random grouping, and the index that the row had in its mixture."""
    n = getattr(model, "n", 1)
    model.eval()
    found, indices, seen = [], [], []
    for rows in recipe.batches(data, n, seed=grouping).rows():
        batch = data.batch(rows, recipe.device)
        del batch["labels"]
        found.append(score.counts(model(**batch).logits, rows))
        indices.append(torch.arange(len(rows)) % n)
        seen.append(rows)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(len(data.ids))), "every row once"
    return torch.cat(found), torch.cat(indices)


def evaluate(model: nn.Module, data: Encoded, score: Score, recipe: Recipe) -> dict[str, Any]:
    """Return the score over random groupings of all rows, and per index; grouping does not matter to a bare model."""
    n = getattr(model, "n", 1)
    groupings = GROUPINGS if n > 1 else 1
    columns, indices = zip(*(counts(model, data, score, recipe, seed) for seed in range(groupings)), strict=True)
    means = [score.score(each.sum(0)) for each in columns]
    every, index = torch.cat(columns), torch.cat(indices)
    return {
        "mean": statistics.mean(means),
        "std": statistics.stdev(means) if groupings > 1 else None,
        "groupings": groupings,
        "per_index": [round(score.score(every[index == i].sum(0)), 2) for i in range(n)],
        "scored": len(data.ids),
        **score.extra(every.sum(0)),
    }
