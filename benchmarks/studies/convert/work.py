"""What a model costs in operations, in layers' worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.studies.convert.backbone import Encoder, Layer
from benchmarks.studies.convert.cells import TEACHER, Task
from benchmarks.studies.convert.configurations import Configuration
from benchmarks.studies.convert.rows import Rows


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
