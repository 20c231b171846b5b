"""One residual network, trained bare and with several images sharing every pass: what is gained and what it costs.

Every configuration gets the same training function and the same number of epochs. The test images are scored under
five random groupings, since a prediction depends a little on the images that share its mixture; none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import muxwrap
from muxwrap._demo.images import Split, jitter
from muxwrap._demo.network import BLOCKS, WIDTH, Net
from muxwrap.evaluation import Evaluation
from muxwrap.throughput import Configuration, Report, compare

GROUPINGS = 5
BATCH, LEARNING_RATE = 128, 4e-3
SHOWN = 10  # steps between two lines of progress
Show = Callable[[str], object]


def run(data: Split, counts: Sequence[int], epochs: int, split: str = "test", *, show: Show, say: Show) -> list[Any]:
    """Train, score and time the bare model and one per n.

    Args:
        data: images.
        counts: rows per mixture; the bare model comes first in any case.
        epochs: of every training.
        split: what the images to score are called.
        show: called with what runs now.
        say: called with a line for each model that is trained.

    Returns:
        A record per model, the bare one first; scores are in percent.

    Raises:
        MuxwrapError: a count is none.
    """
    side = data.train_x.shape[-1]
    models = {n: _made(data, n) for n in dict.fromkeys([1, *counts])}
    scores = {}
    for n, model in models.items():
        train(model, data.train_x, data.train_y, epochs, label(n), show)
        show(f"score {label(n)}")
        scores[n] = _evaluated(model, data.test_x, data.test_y, n)
        say(f"{label(n):>5}: {scores[n].mean:.1%} right")
    return _records(data, split, scores, _measured(models, side, show), epochs)


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, name: str, show: Show) -> None:
    """Plain training; a new order every epoch gives every image new companions.

    Args:
        model: bare or multiplexed.
        x: images.
        y: their labels.
        epochs: over all images.
        name: of the model, in what is shown.
        show: called with what runs now.
    """
    torch.manual_seed(0)
    steps = max(1, len(x) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps * epochs, pct_start=0.2)
    model.train()
    for epoch in range(epochs):
        for step, rows in enumerate(torch.randperm(len(x))[: steps * BATCH].split(BATCH)):
            loss = F.cross_entropy(model(jitter(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % SHOWN == 0:
                show(f"train {name}: step {epoch * steps + step} of {steps * epochs}, loss {loss.item():.3f}")


def label(n: int) -> str:
    """Return what a model is called."""
    return "bare" if n == 1 else f"n={n}"


def _made(data: Split, n: int) -> nn.Module:
    torch.manual_seed(0)
    side = data.train_x.shape[-1]
    model: nn.Module = Net(side, classes=data.classes)
    if n != 1:
        model = muxwrap.wrap(model, n=n, example_input=torch.zeros(1, 1, side, side))  # the one added line
    return model


def _evaluated(model: nn.Module, x: Tensor, y: Tensor, n: int) -> Evaluation:
    """Return the accuracy over random groupings of all images, in calls of whole mixtures except for the last one."""
    rows = 64 * n
    return muxwrap.evaluate(model, zip(x.split(rows), y.split(rows), strict=True), groupings=GROUPINGS, progress=False)


def _measured(models: dict[int, nn.Module], side: int, show: Show) -> Report:
    """Time all models in one run, in turn, each at its own best batch size."""
    example = torch.rand(1, 1, side, side)
    configurations = [Configuration(label(n), model, example) for n, model in models.items()]
    return compare(configurations, mixtures=(16, 32, 64, 128, 256), rounds=9, seconds=0.3, progress=show)


def _records(data: Split, split: str, scores: dict[int, Evaluation], report: Report, epochs: int) -> list[Any]:
    found = []
    for n, score in scores.items():
        cell = report[n]
        model = {"backbone": f"residual CNN, {BLOCKS} blocks of {WIDTH}", "dataset": data.name, "split": split, "n": n}
        chosen = {"strategy": cell.strategy, "demux": cell.demux, "metric": score.metric}
        per_index = [round(100 * value, 2) for value in score.per_index]
        # In percent; the bare model's one grouping does not deviate.
        result = {"mean": 100 * score.mean, "std": 100 * (score.deviation or 0.0), "per_index": per_index}
        counts = {"groupings": len(score.scores), "seeds": 1, "epochs": epochs}
        speed = {"instances_per_second": cell.instances_per_second, "ratio_to_bare": cell.ratio_to_bare}
        found.append({**model, **chosen, **result, **counts, **speed, "added_parameters": cell.added_parameters})
    return found
