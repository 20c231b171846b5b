"""Bare models that teach: what they answer to the training rows, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.studies.text.models import Sizes, make
from benchmarks.studies.text.pieces import Data
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.training import Recipe, fit

LR, HEADS = 3e-4, 16  # of B1, as selection prefers it


def answers(
    data: Data, sizes: Sizes, recipe: Recipe, seeds: list[int], kept: Path, tell: Callable[[str], object]
) -> Tensor:
    """Return the mean log-probabilities that B1 gives the training rows, over these seeds: ``[rows, classes]``.

    Every seed's are kept in a folder.
    """
    found = []
    for seed in seeds:
        size = f"{sizes.layers}x{sizes.dim} pieces={data.pieces}"
        path = kept / f"{data.task.name} {size} epochs={recipe.epochs} seed={seed}.pt"
        if not path.exists():
            tell(f"teacher of seed {seed}")
            kept.mkdir(parents=True, exist_ok=True)
            torch.save(_taught(data, sizes, recipe._replace(seed=seed, crosstalk=1), tell), path)
        found.append(torch.load(path).log_softmax(-1))
    return torch.stack(found).mean(0)


def _taught(data: Data, sizes: Sizes, recipe: Recipe, tell: Callable[[str], object]) -> Tensor:
    """Train B1, and return its logits of all training rows."""
    model = make(data.task, "B1", 1, sizes._replace(heads=HEADS), recipe.seed).to(recipe.device)
    score = scorer(data.task, data.task.select, data.select)
    model.load_state_dict(fit(model, data.train, data.select, score, recipe, LR, tell).state)
    return logits(model.eval(), data, recipe)


@torch.no_grad()
def logits(model: nn.Module, data: Data, recipe: Recipe) -> Tensor:
    """Return a bare model's answers to all training rows, in their order."""
    found: dict[int, Tensor] = {}
    for rows in recipe.batches(data.train, 1).rows():
        batch = data.train.batch(rows, recipe.device)
        del batch["labels"]
        found |= zip(rows.tolist(), model(**batch).logits.cpu(), strict=True)
    return torch.stack([found[row] for row in range(len(data.train.ids))])
