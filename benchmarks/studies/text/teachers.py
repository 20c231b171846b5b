"""Bare models that teach: their answers to the training rows, computed once and kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.studies.common.cells import Progress
from benchmarks.studies.common.recipe import Recipe
from benchmarks.studies.common.teachers import computed_once
from benchmarks.studies.text.batches import rows_for
from benchmarks.studies.text.models import Sizes, make
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.tokenizer import Data
from benchmarks.studies.text.training import answer, fit

LR, HEADS = 3e-4, 16  # of B1, as selection prefers it


def answers(
    data: Data, sizes: Sizes, how: Recipe, seeds: list[int], cache: Path, device: torch.device, progress: Progress
) -> Tensor:
    """Return the mean log-probabilities that B1 gives the training rows, over these seeds: ``[rows, classes]``.

    The logits of every seed are kept in the folder ``cache``.
    """
    found = []
    for seed in seeds:
        size = f"{sizes.layers}x{sizes.dim} pieces={data.vocabulary}"
        path = cache / f"{data.task.name} {size} epochs={how.epochs} seed={seed}.pt"
        own = replace(how, seed=seed, lr=LR, crosstalk=1)
        logits = computed_once(path, partial(_trained_answers, data, sizes, own, device, progress))
        found.append(logits.log_softmax(-1))
    return torch.stack(found).mean(0)


def _trained_answers(data: Data, sizes: Sizes, how: Recipe, device: torch.device, progress: Progress) -> Tensor:
    """Train B1, and return its logits of all training rows."""
    model = make(data.task, "B1", 1, sizes._replace(heads=HEADS), how.seed).to(device)
    score = scorer(data.task, data.task.select, data.select)
    best = fit(model, data.train, data.select, score, how, lambda line: progress(f"teacher {how.seed}: {line}"))
    model.load_state_dict(best.state)
    return logits(model.eval(), data, how)


@torch.no_grad()
def logits(model: nn.Module, data: Data, how: Recipe) -> Tensor:
    """Return a bare model's answers to all training rows, in their order."""
    found: dict[int, Tensor] = {}
    for rows in rows_for(model, data.train, how):
        found |= zip(rows.tolist(), answer(model, data.train, rows).cpu(), strict=True)
    return torch.stack([found[row] for row in range(len(data.train.ids))])
