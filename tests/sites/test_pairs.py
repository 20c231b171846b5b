"""Masks over pairs of positions: rows of a mixture may differ in their padding, and in nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError
from muxwrap._hooks.pairs import differ_in_padding

LENGTH = 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.project = nn.Linear(given, 96)

    def forward(self, h: Tensor, pairs: Tensor) -> Tensor:
        q, k, v = self.project(h).chunk(3, -1)
        return torch.relu((q @ k.mT / 6).masked_fill(pairs == 0, -1e9).softmax(-1) @ v)


class Graphs(nn.Module):
    """Features of nodes and the edges between them, one graph a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(Attention(given) for given in (8, 32, 32)), nn.Linear(32, 3)

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, pairs)
        return self.head(x.mean(1))


CAUSAL = torch.ones(LENGTH, LENGTH).tril().bool()


def padded(*lengths: int) -> Tensor:
    return (torch.arange(LENGTH) < torch.tensor(lengths)[:, None])[:, None, :]


def documents(*ends: int) -> Tensor:
    second = torch.arange(LENGTH) >= torch.tensor(ends)[:, None]
    return second[:, :, None] == second[:, None, :]


PADDING = {
    "keys": padded(6, 3, 2, 5).expand(-1, LENGTH, -1),
    "both": padded(6, 3, 2, 5) & padded(6, 3, 2, 5).mT,
    "causal": padded(6, 3, 2, 5) & CAUSAL,
    "on the left": padded(6, 3, 2, 5).flip(-1) & CAUSAL,
    "padding sees all": padded(6, 3, 2, 5) & padded(6, 3, 2, 5).mT | ~padded(6, 3, 2, 5).mT,
    "the same documents": documents(2, 2, 2, 2) & padded(6, 3, 2, 5),
    "several heads": (padded(6, 3, 2, 5) & CAUSAL)[:, None].expand(-1, 2, -1, -1),
    "nothing": torch.ones(4, LENGTH, LENGTH).bool(),
}
MORE = {
    "edges": (torch.rand(4, LENGTH, LENGTH) > 0.6) | torch.eye(LENGTH).bool(),
    "documents": documents(2, 4, 3, 3),
    "prefix": CAUSAL | padded(3, 1, 2, 2),
}


@pytest.mark.parametrize("form", ["bool", "number", "additive"])
@pytest.mark.parametrize("name", [*PADDING, *MORE])
def test_what_differs_in_padding_alone(name: str, form: str) -> None:
    mask = (PADDING | MORE)[name]
    if form == "number":
        mask = mask.float()
    elif form == "additive":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    assert bool(differ_in_padding(mask.unflatten(0, (2, 2)))) == (name in PADDING)


def test_edges_of_graphs_that_share_a_mixture_have_to_agree() -> None:
    x, edges = torch.randn(4, LENGTH, 8), MORE["edges"].float()
    with pytest.raises(MuxwrapError, match=r"layers.\d is given args\[1\] \[rows, 6, 6\].*in more than their padding"):
        muxwrap.wrap(Graphs(), 2, example_input=(x, edges))
    model = muxwrap.wrap(Graphs(), 2, example_input=(x, edges[:1].expand(4, -1, -1))).eval()
    with pytest.raises(MuxwrapError, match="that of none: put rows that agree in it next to each other"):
        model(x, edges)
    assert model(x, edges[[0, 0, 1, 1]]).shape == (4, 3)
    assert model(x, PADDING["both"].float()).shape == (4, 3)
