"""Images that a model makes of what it is given, which may be bytes, have their channels last or lie flat."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import muxwrap


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Prepares(nn.Module):
    """Makes images [rows, 2, 20, 20] of what it is given, which a CNN reads."""

    def __init__(self, prepare: Callable[[Tensor], Tensor], head: nn.Module | None = None) -> None:
        super().__init__()
        self.prepare = prepare
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.net = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), head or pooled
        )
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.net(self.prepare(x)))


def last(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


PREPARED: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "bytes": (lambda x: x.float() / 255, torch.randint(256, (6, 2, 20, 20), dtype=torch.uint8)),
    "flat": (lambda x: x.view(-1, 2, 20, 20), torch.rand(6, 800)),
    "channels last": (last, torch.rand(6, 20, 20, 2)),
    "bytes, channels last": (lambda x: last(x).float() / 255, torch.randint(256, (6, 20, 20, 2), dtype=torch.uint8)),
}


@pytest.mark.parametrize("name", list(PREPARED))
def test_images_that_the_model_makes_of_what_it_is_given_get_cells(name: str) -> None:
    prepare, x = PREPARED[name]
    net = Prepares(prepare).eval()
    model = muxwrap.wrap(net, n=2, example_input=x)
    (site,) = model.sites.mux
    assert (model.strategy.name, site.path, site.image) == ("layout", "net", (2, 20, 20))
    mixtures = []
    net.net[1].register_forward_pre_hook(lambda _module, args: mixtures.append(len(args[0])))
    answers = model(x)
    other = x.clone()
    other[2] = 0
    assert torch.equal(((model(other) - answers).abs().amax(-1) > 0), torch.tensor([0, 0, 1, 1, 0, 0]) > 0)
    assert mixtures == [3, 3]


def test_channels_last_are_channels_where_the_input_is_named() -> None:
    prepare, x = PREPARED["channels last"]
    model = muxwrap.wrap(Prepares(prepare), n=2, mux_at="@input", example_input=x)
    assert (model.strategy.name, model.strategy.dim, model.sites.mux[0].axis) == ("layout", 2, -1)
    assert model(x).shape == (6, 3)


def test_bytes_whose_cells_are_not_all_read_get_no_cells() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 0, 0]

    prepare, x = PREPARED["bytes"]
    model = muxwrap.wrap(Prepares(prepare, Corner()), n=2, example_input=x)
    assert (model.strategy.name, model.sites.mux[0].path) == ("slots", "net.0")


def test_words_that_a_convolution_reads_whole_are_no_image() -> None:
    class Words(nn.Module):
        """A convolution over three words, as wide as a word's 40 features are many."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.after, self.out = nn.Conv2d(1, 32, (3, 40)), nn.Conv1d(32, 32, 3), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.after(self.words(x.unsqueeze(1)).relu().squeeze(3)).amax(-1))

    model = muxwrap.wrap(Words(), n=2, example_input=torch.randn(2, 12, 40))
    assert (model.strategy.name, str(model.sites.mux[0])) == ("slots", "input of the backbone (axis -1, dim 40)")
