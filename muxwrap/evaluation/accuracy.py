"""Accuracy of every index of a mixture on its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.plots import bars_by_index
from muxwrap.evaluation.states import answers, check_wrapped, evaluating, rows_of
from muxwrap.multiplex import Multiplex

IGNORED = -100  # the label that torch's and Transformers' losses leave out


@dataclass(frozen=True)
class IndexAccuracy:
    """``accuracy[i]`` of the answers at index i, and over how many labels (``count[i]``); NaN where there were none."""

    accuracy: Tensor
    count: Tensor

    @property
    def mean(self) -> float:
        """Accuracy over all labels."""
        return ((self.accuracy * self.count).nansum() / self.count.sum()).item()

    @property
    def spread(self) -> float:
        """The best index's accuracy less the worst one's."""
        seen = self.accuracy[self.count > 0]
        return (seen.max() - seen.min()).item()

    def plot(self, ax: Any = None) -> Any:
        """Draw a bar an index on a matplotlib ``Axes`` (a new one by default), and return it."""
        return bars_by_index(self.accuracy, ax, "accuracy")


def index_accuracy(model: Multiplex, batches: Iterable[tuple[Any, Tensor]]) -> IndexAccuracy:
    """Count the right answers of every index: row k of a batch stands at index ``k mod n``.

    Args:
        model: a wrapped classifier (of rows or of tokens); measured in evaluation mode, its mode is put back.
        batches: pairs of inputs (a tensor, a tuple of arguments or a dict of keyword arguments) and labels ``[rows]``
            or ``[rows, L]``; labels of -100 are left out. The model's first output with rows holds the classes in its
            last axis.

    Raises:
        MuxwrapError: the model is not wrapped, no labels, or labels of another shape than the answers.
    """
    check_wrapped(model, "index_accuracy")
    right, count = torch.zeros(model.n), torch.zeros(model.n)
    with evaluating(model):
        for inputs, labels in batches:
            guesses = answers(model, inputs).argmax(-1)
            if guesses.shape != labels.shape:
                raise MuxwrapError(
                    f"index_accuracy: labels of shape {list(labels.shape)} for answers of shape {list(guesses.shape)}"
                )
            index = (torch.arange(rows_of(inputs)) % model.n).view(-1, *[1] * (labels.ndim - 1)).expand_as(labels)
            kept = (labels != IGNORED).cpu()
            right += torch.bincount(index[kept & (guesses.cpu() == labels.cpu())], minlength=model.n)
            count += torch.bincount(index[kept], minlength=model.n)
    if not count.any():
        raise MuxwrapError("index_accuracy: the batches hold no labels; give (inputs, labels) pairs")
    return IndexAccuracy(right / count, count)
