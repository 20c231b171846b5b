"""Rows are mixed in the order of the batch, by which they are kept apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import muxwrap


class Sorted(nn.Module):
    """Sorts rows by a number of theirs, as old code does before it packs sequences, and puts the answers back."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late, self.stem, self.trunk, self.head = late, nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        if self.late:
            return self.head(self.trunk(self.stem(x))[order].relu())[order.argsort()]
        return self.head(self.trunk(self.stem(x[order])).relu())[order.argsort()]


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_that_are_sorted_before_mixing_are_refused(rows: int) -> None:
    x = torch.randn(rows, 8)
    with pytest.raises(muxwrap.MuxwrapError, match=r"another order before the .*sort them outside.*mux_at="):
        muxwrap.wrap(Sorted(late=False), 2, example_input=x, mux_at="stem", demux_at="head")


def test_one_row_per_mixture_may_be_sorted() -> None:
    muxwrap.wrap(Sorted(late=False), 1, example_input=torch.randn(4, 8), mux_at="stem", demux_at="head")


def test_rows_in_their_order_are_not_refused() -> None:
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    muxwrap.wrap(net, 2, example_input=torch.randn(1, 8), mux_at="0")


class Summed(nn.Module):
    """Packed sequences for a recurrent layer that begins with what the mean of the whole row says."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = nn.Linear(5, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = self.embed(x)
        packed = pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.cell(packed, h.mean(1)[None])[1][-1])


def test_a_mixture_does_not_begin_with_the_mean_of_another_row() -> None:
    """It would be that of the row at its place in the batch; a row that is only turned around has the same mean."""
    x, lengths = torch.randn(4, 9, 5), torch.tensor([3, 9, 5, 7])
    with pytest.raises(muxwrap.MuxwrapError, match=r"states .* beside it are those of the rows"):
        muxwrap.wrap(Summed(), 2, example_input=(x[:1], lengths[:1]))
