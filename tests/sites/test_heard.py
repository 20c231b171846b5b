"""Every instance of a mixture reaches an answer, or the model is refused."""

from __future__ import annotations

import pytest
import torch
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap.errors import MuxwrapError


class FirstPatch(nn.Module):
    """The head reads the patch in the upper left corner alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 16, 4, 4), nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stem(image).flatten(2).transpose(1, 2)[:, 0])


@pytest.mark.parametrize("strategy", ["layout", "remap"])
def test_instances_that_no_answer_reads_are_refused(strategy: str) -> None:
    net, x = FirstPatch().eval(), torch.randn(4, 2, 16, 16)
    with pytest.raises(MuxwrapError, match=r"the answers do not depend on those of the instances \[1\]"):
        muxwrap.wrap(net, 2, strategy, mux_at="@input", demux_at="head", example_input=x)
    assert muxwrap.wrap(net, 2, "kernels", mux_at="@input", demux_at="head", example_input=x)(x).shape == (4, 5)


def test_where_nobody_named_a_strategy_another_place_is_found() -> None:
    x = torch.randn(4, 2, 16, 16)
    model = muxwrap.wrap(FirstPatch().eval(), 2, example_input=x)
    moved = x.clone()
    moved[1] += 1
    assert (model(moved) - model(x))[1].abs().sum() > 0


def test_where_all_are_read_nothing_is_refused() -> None:
    x = batch("cnn", 4)
    model = muxwrap.wrap(make("cnn"), 2, "layout", mux_at="@input", example_input=x[:1]).eval()
    for row in range(4):
        moved = x.clone()
        moved[row] += 1
        assert (model(moved) - model(x))[row].abs().sum() > 0


def test_a_head_of_zeros_tells_nothing() -> None:
    net = make("cnn")
    nn.init.zeros_(net.fc.weight)
    model = muxwrap.wrap(net, 2, "layout", mux_at="@input", example_input=batch("cnn", 1))
    assert model(batch("cnn", 3)).shape == (3, 5)


def test_pixels_in_slots_are_parts_of_the_image_too() -> None:
    x = torch.randn(4, 2, 16, 16)
    with pytest.raises(
        MuxwrapError, match=r"slots gives every instance a part of the image.*instances \[2\].*'orthogonal'"
    ):
        muxwrap.wrap(FirstPatch().eval(), 3, "slots", mux_at="@input", demux_at="head", example_input=x)
    spread = muxwrap.wrap(FirstPatch().eval(), 3, "orthogonal", mux_at="@input", demux_at="head", example_input=x)
    assert spread(x).shape == (4, 5)
