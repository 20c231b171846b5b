"""Bare models that teach: trained once and kept, and what they answer to the training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from models import Sizes, make
from pieces import Data, Encoded
from scores import scorer
from torch import Tensor, nn
from training import Recipe, fit

LR, HEADS = 3e-4, 16  # of B1, as selection prefers it


def answers(
    data: Data, sizes: Sizes, recipe: Recipe, seeds: list[int], kept: Path, tell: Callable[[str], object]
) -> Tensor:
    """Return the mean log-probabilities that B1 gives the training rows, over these seeds: ``[rows, classes]``.

    Every seed's weights are kept in a folder.
    """
    found = []
    for seed in seeds:
        model = make(data.task, "B1", 1, sizes._replace(heads=HEADS), seed).to(recipe.device)
        size = f"{sizes.layers}x{sizes.dim} pieces={data.pieces}"
        path = kept / f"{data.task.name} {size} epochs={recipe.epochs} seed={seed}.pt"
        if path.exists():
            model.load_state_dict(torch.load(path, map_location=recipe.device))
        else:
            tell(f"teacher of seed {seed}")
            _train(model, data, recipe._replace(seed=seed, crosstalk=1), tell)
            kept.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path)
        found.append(logits(model.eval(), data.train, recipe).log_softmax(-1))
    return torch.stack(found).mean(0)


def _train(model: nn.Module, data: Data, recipe: Recipe, tell: Callable[[str], object]) -> None:
    """Train B1 in place."""
    score = scorer(data.task, data.task.select, data.select)
    model.load_state_dict(fit(model, data.train, data.select, score, recipe, LR, tell).state)


@torch.no_grad()
def logits(model: nn.Module, data: Encoded, recipe: Recipe) -> Tensor:
    """Return a bare model's answers to all rows, in their order."""
    found: dict[int, Tensor] = {}
    for rows in recipe.batches(data, 1).rows():
        batch = data.batch(rows, recipe.device)
        del batch["labels"]
        found |= zip(rows.tolist(), model(**batch).logits.cpu(), strict=True)
    return torch.stack([found[row] for row in range(len(data.ids))])
