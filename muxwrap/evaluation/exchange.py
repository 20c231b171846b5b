"""How far an instance's answer moves when another instance of its mixture is exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap._util.nested import map_tensors
from muxwrap._util.plots import axes
from muxwrap.evaluation.states import answers, whole_groups
from muxwrap.multiplex import Multiplex


@dataclass(frozen=True)
class Crosstalk:
    """``matrix[i, j]``: how far index i's answer moves (root mean square) when the instance at index j is exchanged.

    The diagonal is what an answer moves with its own input. A bare model has zeros beside it.
    """

    matrix: Tensor

    @property
    def relative(self) -> float:
        """Mean movement by another instance, as a share of the mean movement by its own; 0 without crosstalk."""
        n = len(self.matrix)
        own = self.matrix.diagonal().mean()
        return 0.0 if n == 1 else ((self.matrix.sum() - n * own) / (n * (n - 1)) / own).item()

    def plot(self, ax: Any = None) -> Any:
        """Draw the matrix on a matplotlib ``Axes`` (a new one by default), and return it."""
        ax = axes(ax)
        image = ax.imshow(self.matrix.tolist(), vmin=0)
        ax.figure.colorbar(image, ax=ax, label="movement of the answer")
        ax.set(xlabel="index that is exchanged", ylabel="index that answers")
        return ax


def crosstalk(model: Multiplex, inputs: Any) -> Crosstalk:
    """Exchange one index at a time with the next group's instance there, and measure every index's answer.

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back.
        inputs: a batch of at least two whole groups: a tensor, a tuple of arguments or a dict of keyword arguments whose
            tensors all have a row for every row of the batch.

    Raises:
        MuxwrapError: the model is not wrapped, or the rows are not whole groups, two or more.
    """
    groups, n = whole_groups(model, inputs, "crosstalk", least=2), model.n
    columns = []
    with quiet(model):
        before = answers(model, inputs).unflatten(0, (groups, n)).float()
        for j in range(n):
            after = answers(model, map_tensors(inputs, partial(_exchanged, n=n, j=j)))
            moved = (after.unflatten(0, (groups, n)).float() - before).square()
            columns.append(moved.transpose(0, 1).flatten(1).mean(1).sqrt().cpu())
    return Crosstalk(torch.stack(columns, dim=1))


def _exchanged(rows: Tensor, n: int, j: int) -> Tensor:
    """Give every group the next group's instance at index j."""
    changed = rows.unflatten(0, (-1, n)).clone()
    changed[:, j] = changed[:, j].roll(1, dims=0)
    return changed.flatten(0, 1)
