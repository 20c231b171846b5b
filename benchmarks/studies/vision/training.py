"""One training function for every network, and scoring that leaves no image out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.studies.vision.data import Data, Part, moved
from benchmarks.studies.vision.tables import Cell
from muxwrap.training import damp_crosstalk, distillation

GROUPINGS = 5
LEAST_ROWS = 128  # of a step, also for a small n
TAUGHT = 0.5  # share of the teacher's answers in the loss, where there is one
SELECTION = 1_000_000  # seed of the groupings of held-out images; those of test images have others


class Recipe(NamedTuple):
    """How a cell is trained: ``mixtures`` a step, but at least 128 images; ``crosstalk`` is a rate to learn it at."""

    epochs: int
    mixtures: int
    lr: float
    decay: float
    seed: int
    crosstalk: float = 1

    @classmethod
    def of(cls, cell: Cell, seed: int) -> Recipe:
        return cls(cell.epochs, cell.mixtures, cell.lr, cell.decay, seed, cell.crosstalk)

    def rows(self, n: int) -> int:
        return n * max(self.mixtures if n > 1 else 1, math.ceil(LEAST_ROWS / n))


def fit(
    model: nn.Module, data: Data, recipe: Recipe, tell: Callable[[str], object], teacher: nn.Module | None = None
) -> int:
    """Train with AdamW and one cycle of the learning rate; a new order every epoch gives every image new companions.

    What a ``teacher`` says of the same images, moved alike, is half of what is learned.

    Returns:
        The steps made.
    """
    torch.manual_seed(recipe.seed)
    images, labels = data.train
    rows = min(recipe.rows(getattr(model, "n", 1)), len(labels))
    steps = len(labels) // rows * recipe.epochs
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or "norm_" in name or "bias" in name]
    others = {id(p) for p in plain}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in others], "weight_decay": recipe.decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if recipe.crosstalk != 1:
        damp_crosstalk(optimizer, model, recipe.crosstalk, images[:1, :, : data.side, : data.side])  # type: ignore[arg-type]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.2)
    model.train()
    for epoch in range(recipe.epochs):
        total = torch.zeros((), device=images.device)
        order = torch.randperm(len(labels), device=images.device)
        for batch in order[: len(labels) // rows * rows].split(rows):
            x = moved(images[batch], data.side, flip=data.channels == 3)
            logits = model(x)
            loss = F.cross_entropy(logits, labels[batch])
            if teacher is not None:
                with torch.no_grad():
                    answers = teacher(x)
                loss = (1 - TAUGHT) * loss + TAUGHT * distillation(logits, answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        tell(f"epoch {epoch + 1}/{recipe.epochs}, loss {total.item() / (len(labels) // rows):.3f}")
    return steps


@torch.inference_mode()
def hits(model: nn.Module, part: Part, grouping: int) -> tuple[Tensor, Tensor]:
    """Return under one random grouping which answers are right, and the index that each image had in its mixture."""
    n = getattr(model, "n", 1)
    model.eval()
    order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(grouping))
    order = order.to(part.labels.device)
    found = [model(part.images[rows]).argmax(1) == part.labels[rows] for rows in order.split(64 * n)]
    return torch.cat(found).float().cpu(), torch.arange(len(order)) % n


def evaluate(model: nn.Module, part: Part, first: int = 0) -> dict[str, Any]:
    """Return the accuracy in percent over random groupings of all images, and per index.

    Grouping does not matter to a bare model.
    """
    n = getattr(model, "n", 1)
    groupings = GROUPINGS if n > 1 else 1
    right, index = zip(*(hits(model, part, first + k) for k in range(groupings)), strict=True)
    means = [100 * each.mean().item() for each in right]
    every, where = torch.cat(right), torch.cat(index)
    return {
        "mean": statistics.mean(means),
        "std": statistics.stdev(means) if groupings > 1 else None,
        "groupings": groupings,
        "per_index": [round(100 * every[where == i].mean().item(), 2) for i in range(n)],
        "scored": len(part.labels),
    }
