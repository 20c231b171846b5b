"""Rows of one number: answers ``[B]`` of regressions, ids ``[B]`` of recommenders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(torch.relu(self.stem(x))))).squeeze(-1)


@pytest.mark.parametrize("rows", [1, 2, 6, 7])
def test_answers_of_one_number_per_row(rows: int) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Regression(), n=4, example_input=torch.randn(1, 8))
    assert [site.path for site in model.sites.demux] == ["head"]  # features are separated, not the answers
    answers = model(torch.randn(rows, 8))
    assert answers.shape == (rows,)
    answers.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_one_instance_is_the_bare_model() -> None:
    torch.manual_seed(0)
    bare, x = Regression(), torch.randn(5, 8)
    expected = bare(x)
    torch.testing.assert_close(muxwrap.wrap(bare, n=1, example_input=x)(x), expected)


class Signal(nn.Module):
    """Signals to 5 classes: 16 channels of 16 numbers between a convolution and a norm of groups of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.layer = (
            nn.Conv1d(2, 16, 5, 2, 2),
            nn.GroupNorm(4, 16),
            nn.Conv1d(16, 16, 3, padding=1),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.norm(torch.tanh(self.stem(x)))).mean(2))


def test_a_group_norm_reads_channels_first_where_there_are_as_many_as_numbers() -> None:
    options = {"mux_at": "stem@input", "demux_at": "norm", "example_input": torch.zeros(1, 2, 32)}
    (site,) = muxwrap.find_sites(Signal(), **options).demux
    assert (site.axis, site.dim, site.shape) == (1, 16, (16, 16))


class Series(nn.Module):
    """A series of one number a step, which a recurrent layer reads; ``wide`` makes more features of each before."""

    def __init__(self, wide: bool) -> None:
        super().__init__()
        self.widen = nn.Linear(1, 80) if wide else nn.Identity()
        self.rnn, self.out = nn.GRU(80 if wide else 1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.widen(x.unsqueeze(-1)))[0][:, -1]).squeeze(-1)


class Masks(nn.Module):
    """A table that is normalised, then read again under a mask that is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mask = nn.BatchNorm1d(12), nn.Linear(64, 12)
        self.first, self.second = (nn.Sequential(nn.Linear(12, 128), nn.GLU()) for _ in range(2))
        self.out = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.out(self.second(x * self.mask(self.first(x)).softmax(-1)))


@pytest.mark.parametrize(
    ("net", "size", "told"),
    [
        (Series(wide=False), 20, r"share the 20 numbers.*nn\.Linear\(1, 80\)"),
        (Masks(), 12, r"share the 12 numbers.*nn\.Linear\(12, 48\)"),
    ],
)
def test_numbers_of_which_a_layer_makes_more_are_told_where_they_are_mixed(
    net: nn.Module, size: int, told: str
) -> None:
    with pytest.warns(UserWarning, match=r"inputs themselves are mixed.*" + told):
        muxwrap.wrap(net, 3, "hadamard", example_input=torch.randn(2, size))


def test_the_way_out_for_a_series_mixes_the_features_of_every_step() -> None:
    model = muxwrap.wrap(Series(wide=True), 3, "hadamard", example_input=torch.randn(2, 20))  # without a warning
    assert str(model.sites.mux[0]) == "output of widen (axis -1, dim 80)"
    assert model(torch.randn(4, 20)).shape == (4,)
