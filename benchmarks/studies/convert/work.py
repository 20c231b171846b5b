"""What a model costs: operations in layers' worth, and measured rows per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import device_name
from benchmarks.studies.convert.backbone import Encoder, Layer
from benchmarks.studies.convert.cells import TEACHER, Task
from benchmarks.studies.convert.configurations import Configuration
from benchmarks.studies.convert.rows import Rows

TOKENS = {"cpu": 2048, "cuda": 131072}  # per call
PASS = {"cpu": 8, "cuda": 4}  # calls per pass
ROUNDS = 5


def layers_worth(model: nn.Module, encoder: Encoder, rows: Rows) -> float:
    """Return a row's operations in those of one layer over all its tokens, at the split's median length.

    Mixing, separating and the head are counted, and the embeddings look-up is not an operation.
    """
    length = int(rows.lengths.median())
    chosen = (rows.lengths - length).abs().argsort()[: 8 * getattr(model, "n", 1)].to(rows.ids.device)
    inputs = rows.inputs(chosen, length)
    hidden = torch.zeros(len(chosen), length, encoder.sizes.dim, device=rows.ids.device)
    layer = next(each for each in encoder.layers if type(each) is Layer)
    mask = torch.ones(len(chosen), 1, 1, length, dtype=torch.bool, device=rows.ids.device)
    return _operations(lambda: model(**inputs)) / _operations(lambda: layer(hidden, mask))


def _operations(call: Callable[[], Any]) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def works(task: Task, configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Count the operations of every model; nothing is trained or timed."""
    rows = task.splits["report"]
    encoder, inputs = task.encoder().eval(), [rows.inputs(*next(iter(rows.batches(32, None))))]
    found = []
    for each in (TEACHER, *configurations):
        worth = layers_worth(each.make(encoder, lambda: inputs, 0).eval(), encoder, rows)
        name = "teacher" if each == TEACHER else str(each)
        cell = {"cell": f"work | {task.name} | {name}", "dataset": task.name, "configuration": name, "kind": "work"}
        found.append({**cell, "layers_worth": round(worth, 3)})
    return found


def speeds(task: Task, configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Time every model in turn, round by round, on the same rows of the reported split; the teacher comes first.

    Rows go through by length in calls of about as many tokens each, in float32 on a processor and in bfloat16 on an
    accelerator. The weights do not matter to the time, so nothing is trained.
    """
    device, rows = task.device, task.splits["report"]
    size = max(8, TOKENS[device.type] // int(rows.lengths.double().mean()) // 8 * 8)
    calls = [(part, length) for part, length in rows.batches(size, None) if len(part) == size]
    calls = calls[:: max(1, len(calls) // PASS[device.type])] or list(rows.batches(size, None))[:1]
    inputs = [rows.inputs(*call) for call in calls]
    encoder = task.encoder().eval()
    models: list[nn.Module] = []
    worth: list[float] = []
    for each in (TEACHER, *configurations):
        models.append(each.make(encoder, lambda: inputs[:1], 0).eval())
        worth.append(layers_worth(models[-1], encoder, rows))
    if device.type != "cpu":
        models = [model.bfloat16() for model in models]
    times: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS + 1):
        for model, own in zip(models, times, strict=True):
            own.append(_seconds(model, inputs, device))
    seconds = [median(own[1:]) for own in times]  # the first round warms up
    count = sum(len(part) for part, _ in calls)
    return [
        {
            "cell": f"speed | {task.name} | {each if each != TEACHER else 'teacher'} | {device.type}",
            "dataset": task.name,
            "configuration": "teacher" if each == TEACHER else str(each),
            "kind": "speed",
            **{name: getattr(each, name) for name in ("layers", "after", "n")},
            "layers_worth": round(own, 3),
            "instances_per_second": round(count / taken, 1),
            "ratio_to_bare": round(seconds[0] / taken, 3),
            "rows_per_call": size,
            "dtype": "float32" if device.type == "cpu" else "bfloat16",
            "device": device_name(device),
        }
        for each, own, taken in zip((TEACHER, *configurations), worth, seconds, strict=True)
    ]


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
