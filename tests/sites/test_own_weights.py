"""Blocks that hold most of their weights themselves, beside a layer that does little: Kolmogorov-Arnold networks (KAN)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import muxwrap


class Splines(nn.Module):
    """Curves on a grid for every pair of an input and an output, beside a linear layer (Liu et al., 2404.19756)."""

    def __init__(self, given: int, made: int, curves: int = 6) -> None:
        super().__init__()
        self.base = nn.Linear(given, made)
        self.weight = nn.Parameter(torch.randn(made, given, curves) / 10)
        self.register_buffer("grid", torch.linspace(-2, 2, curves))

    def forward(self, x: Tensor) -> Tensor:
        bumps = torch.exp(-((x[..., None] - self.grid) ** 2))
        return self.base(F.silu(x)) + torch.einsum("...ik,oik->...o", bumps, self.weight)


def kan() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Splines(8, 64), Splines(64, 64), Splines(64, 64), Splines(64, 3))


def test_a_block_that_does_most_with_weights_of_its_own_is_a_layer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither the inputs are mixed nor the answers separated
        model = muxwrap.wrap(kan(), 2, example_input=torch.zeros(1, 8)).eval()
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("0", "3")
    assert model.sites.share > 0.8
    rows: list[int] = []
    model.backbone[2].base.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    x = torch.randn(7, 8)
    moved = model(torch.cat([x[:6], x[6:] + 1])) - model(x)
    assert rows == [4, 4]
    # the last group is filled with the first row
    assert (moved.abs().sum(1) > 0).tolist() == [False] * 6 + [True]


def test_one_instance_is_the_bare_model() -> None:
    bare, x = kan(), torch.randn(7, 8)
    expected = bare(x)
    model = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=x)
    torch.testing.assert_close(model(x), expected)
