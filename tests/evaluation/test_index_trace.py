"""The probe reads an index that is there, and nothing where there is none."""

from __future__ import annotations

import pytest
import texts
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap.demuxers import Demuxer
from muxwrap.evaluation import index_readable


class Marked(Demuxer):
    """Gives the mixture to every index, with a mark of the index of a given size."""

    def __init__(self, n: int, dim: int, *, mark: float, seed: int = 0) -> None:
        super().__init__(n, dim, seed=seed)
        self.mark = mark

    def forward(self, h: Tensor) -> Tensor:
        marks = self.mark * torch.eye(self.n, self.dim).view(self.n, *[1] * (h.ndim - 2), self.dim)
        return torch.randn(h.shape[0], self.n, *h.shape[1:]) + marks


def model(mark: float, n: int = 3) -> muxwrap.Multiplex:
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))
    return muxwrap.wrap(net, n, demux=Marked(n, 8, mark=mark), example_input=torch.zeros(1, 8), demux_at="3")


def test_chance_where_the_index_left_no_mark_and_everything_where_it_did() -> None:
    torch.manual_seed(0)
    batches = torch.randn(1500, 8).split(300)
    none, some, large = (index_readable(model(mark), batches) for mark in (0.0, 1.0, 20.0))
    assert (none.chance, none.rows) == (1 / 3, 750)
    assert abs(none.accuracy - 1 / 3) < 4 * none.deviation and abs(none.nearest - 1 / 3) < 4 * none.deviation
    assert none.accuracy + 4 * none.deviation < some.accuracy < large.accuracy == large.nearest == 1


def test_padding_of_sentences_does_not_count() -> None:
    wrapped = muxwrap.wrap(texts.tiny("token", "bert"), 2)
    batch = texts.sentences((5, 3, 6, 4) * 8)
    padded = {key: torch.cat([value, torch.zeros(32, 2, dtype=value.dtype)], 1) for key, value in batch.items()}
    assert index_readable(wrapped, [batch, batch]) == index_readable(wrapped, [padded, padded])


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="n=1 has one index"):
        index_readable(muxwrap.wrap(nn.Linear(8, 8), 1, example_input=torch.zeros(1, 8), mux_at="@input"), [])
    with pytest.raises(muxwrap.MuxwrapError, match="2 mixtures of n=3"):
        index_readable(model(1.0), [torch.randn(7, 8)])
    with pytest.raises(muxwrap.MuxwrapError, match="not a wrapped model"):
        index_readable(nn.Linear(8, 8), [])  # type: ignore[arg-type]
