"""Measured rows per second of every model, beside the teacher's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.results import device_name
from benchmarks.studies.convert.cells import TEACHER, Task
from benchmarks.studies.convert.configurations import Configuration
from benchmarks.studies.convert.work import layers_worth

TOKENS = {"cpu": 4096, "cuda": 131072}  # per call
PASS = 3  # calls per pass
ROUNDS = 4


def speeds(task: Task, configurations: Sequence[Configuration], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Time every model in turn, round by round in alternating order, on the same rows of the reported split.

    Rows go through by length in calls of about as many tokens each, in float32 on a processor and in bfloat16 on an
    accelerator. A ratio is the median over rounds of the teacher's time over the model's in the same round. The weights do not
    matter to the time, so nothing is trained.
    """
    device, rows = task.device, task.splits["report"]
    size = max(8, TOKENS[device.type] // int(rows.lengths.double().mean()) // 8 * 8)
    calls = [(part, length) for part, length in rows.batches(size, None) if len(part) == size]
    calls = _spread(calls) or list(rows.batches(size, None))[:1]
    inputs = [rows.inputs(*call) for call in calls]
    encoder = task.encoder().eval()
    models: list[nn.Module] = []
    worth: list[float] = []
    for each in (TEACHER, *configurations):
        models.append(each.make(encoder, lambda: inputs[:1], 0).eval())
        worth.append(layers_worth(models[-1], encoder, rows))
    if device.type != "cpu":
        models = [model.bfloat16() for model in models]
    seconds = _times(models, inputs, device, rounds)
    count = sum(len(part) for part, _ in calls)
    return [
        {
            "cell": f"speed | {task.name} | {each if each != TEACHER else 'teacher'} | {device.type}",
            "dataset": task.name,
            "configuration": "teacher" if each == TEACHER else str(each),
            "kind": "speed",
            **{name: getattr(each, name) for name in ("layers", "after", "n")},
            "layers_worth": round(own, 3),
            "instances_per_second": round(count / median(taken), 1),
            "ratio_to_bare": round(median(b / t for b, t in zip(seconds[0], taken, strict=True)), 3),
            "rows_per_call": size,
            "rounds": rounds,
            "threads": torch.get_num_threads(),
            "dtype": "float32" if device.type == "cpu" else "bfloat16",
            "device": device_name(device),
        }
        for each, own, taken in zip((TEACHER, *configurations), worth, seconds, strict=True)
    ]


def _spread(calls: list[Any]) -> list[Any]:
    """Return calls of short, middle and long rows."""
    step = len(calls) / min(PASS, len(calls) or 1)
    return [calls[int((k + 0.5) * step)] for k in range(min(PASS, len(calls)))]


def _times(models: Sequence[nn.Module], inputs: Sequence[Any], device: torch.device, rounds: int) -> list[list[float]]:
    """Return the seconds of every model in every round."""
    for model in models:
        _seconds(model, inputs[:1], device)  # warms up
    times: list[list[float]] = [[] for _ in models]
    order: list[tuple[nn.Module, list[float]]] = list(zip(models, times, strict=True))
    for k in range(rounds):
        turn: Iterator[Any] = iter(order) if k % 2 == 0 else reversed(order)
        for model, own in turn:
            own.append(_seconds(model, inputs, device))
    return times


@torch.inference_mode()
def _seconds(model: nn.Module, inputs: Sequence[Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for each in inputs:
        model(**each)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
