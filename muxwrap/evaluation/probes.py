"""Linear probes: what can be read of separated states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from muxwrap._util.nested import replace_object, tensors_in
from muxwrap.evaluation.states import rows_of, state
from muxwrap.multiplex import Multiplex

RIDGE = 1e-3  # of the mean variance of a feature


def take(batch: Any, rows: Tensor) -> Any:
    """Return some rows of a batch, in the order given."""
    count = rows_of(batch)
    for value in list(tensors_in(batch)):
        if value.ndim and value.shape[0] == count:
            batch = replace_object(batch, value, value[rows.to(value.device)])
    return batch


def pooled(model: Multiplex, batch: Any) -> Tensor:
    """Return ``[rows, features]``: separated states, the mean over their tokens where they are sequences."""
    found = state(model, batch)
    site = model.sites.demux[0]
    if site.axis != -1 or found.shape[1] == site.dim:
        return found
    tokens = found.unflatten(1, (-1, site.dim))
    mask = batch.get("attention_mask") if hasattr(batch, "get") else None
    if mask is None or mask.shape != tokens.shape[:2]:
        return tokens.mean(1)
    weight = mask.to(tokens).unsqueeze(-1)
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Return the map ``[features, targets]`` from centered ``[rows, features]`` to ``[rows, targets]``, with a small ridge."""
    square = x.T @ x
    ridge = RIDGE * square.diagonal().mean().clamp(min=torch.finfo(x.dtype).tiny)
    weight: Tensor = torch.linalg.solve(square + ridge * torch.eye(len(square), dtype=x.dtype), x.T @ y)
    return weight
