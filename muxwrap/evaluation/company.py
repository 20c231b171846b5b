"""How much one instance's separated state tells of another instance of its mixture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.probes import least_squares, pooled, take
from muxwrap.evaluation.states import rows_of
from muxwrap.multiplex import Multiplex, check_wrapped


@dataclass(frozen=True)
class CompanyTrace:
    """What linear probes read, over mixtures that they did not see.

    Args:
        own: accuracy of probes for the label of the row whose state it is, 0 to 1.
        neighbour: of probes for the label of another row of the mixture: near ``chance`` where nothing can be read.
        chance: the share of the most common label.
        rows: how many were asked, each of them about n - 1 others.
    """

    own: float
    neighbour: float
    chance: float
    rows: int


def company_readable(model: Multiplex, batches: Iterable[tuple[Any, Tensor]], *, seed: int = 0) -> CompanyTrace:
    """Fit linear probes from each index's state to every row's label on half of the mixtures, and ask about the other half.

    There is a probe for every pair of indices, since codes differ between indices. It is a lower bound: what a linear map does
    not read, another may.

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back.
        batches: pairs of inputs (a tensor, a tuple of arguments or a dict of keyword arguments) and labels ``[rows]``, of rows
            that do not repeat; read once. Rows beyond whole mixtures are left out.
        seed: of the dealing of rows to mixtures.

    Raises:
        MuxwrapError: the model is not wrapped, n is 1, labels are not one integer for each row, or there are fewer than 4
            mixtures.
    """
    check_wrapped(model, "company_readable")
    n = model.n
    if n == 1:
        raise MuxwrapError("company_readable(model): at n=1 a row has no company; wrap with n of 2 or more")
    generator = torch.Generator().manual_seed(seed)
    states, labels = [torch.empty(0, n, 1)], [torch.empty(0, n, dtype=torch.long)]
    with quiet(model):
        for inputs, of_rows in batches:
            check_labels("company_readable", inputs, of_rows)
            dealt = torch.randperm(len(of_rows), generator=generator)[: len(of_rows) // n * n]
            if len(dealt):
                states.append(pooled(model, take(inputs, dealt)).unflatten(0, (-1, n)).double().cpu())
                labels.append(of_rows.cpu()[dealt].unflatten(0, (-1, n)))
    mixtures, wanted = torch.cat(states[1:] or states), torch.cat(labels)
    if len(mixtures) < 4:
        raise MuxwrapError(
            f"company_readable(batches): {len(mixtures)} mixtures of n={n}; give 4 or more, some hundred for a firm answer"
        )
    fit = len(mixtures) // 2
    right = torch.stack([_right(mixtures[:, i], wanted, fit) for i in range(n)])
    own = right.diagonal().mean()
    neighbour = (right.sum() - right.diagonal().sum()) / (n * (n - 1))
    chance = wanted[fit:].flatten().bincount().max() / wanted[fit:].numel()
    return CompanyTrace(float(own), float(neighbour), float(chance), wanted[fit:].numel())


def check_labels(function: str, inputs: Any, labels: Any) -> None:
    """Refuse what is not one integer for each row.

    Raises:
        MuxwrapError: it is not.
    """
    rows = rows_of(inputs)
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != (rows,):
        given = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise MuxwrapError(
            f"{function}(batches): labels {given} for {rows} rows; give pairs (inputs, one integer for each row)"
        )


def _right(states: Tensor, labels: Tensor, fit: int) -> Tensor:
    """Return how often probes of the states ``[g, features]`` at an index find each row's label, ``[n]``."""
    classes = int(labels.max()) + 1
    x = states - states[:fit].mean(0)
    y = F.one_hot(labels[:fit], classes).to(x.dtype).flatten(1)
    scores = x[fit:] @ least_squares(x[:fit], y - y.mean(0)) + y.mean(0)
    found = scores.unflatten(1, (labels.shape[1], classes)).argmax(-1)
    return (found == labels[fit:]).double().mean(0)
