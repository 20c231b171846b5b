"""The networks of the study, bare and multiplexed."""

from __future__ import annotations

import ast
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.studies.common.models import APART
from benchmarks.studies.common.models import operations as operations_of
from benchmarks.studies.vision.tables import RECORDED, Cell
from muxwrap import strategies
from muxwrap.training import start_apart


class LeNet(nn.Module):
    """DataMUX's LeNet for 20 x 20 pixels: convolutions 3x3, 4x4 and 3x3, tanh, 84 features and the classes.

    Sizes and tanh are the published ones. Batch norms are added, and pooling is by the mean, as in the first LeNets.

    Args:
        channels: of the images.
        first: channels of the first convolution: 6, or 10 as in the notebook's wider one.
        width: multiplies all sizes.
        modern: ReLU and pooling by the maximum instead, both at once.
    """

    def __init__(self, channels: int = 1, first: int = 6, width: float = 1, modern: bool = False) -> None:
        super().__init__()
        act, pool = (nn.ReLU, nn.MaxPool2d) if modern else (nn.Tanh, nn.AvgPool2d)
        a, b, c, d = (round(size * width) for size in (first, 16, 120, 84))
        self.pixels = nn.Flatten()  # a place where strategies for features see the whole image
        self.image = nn.Unflatten(1, (channels, 20, 20))
        self.conv1 = nn.Conv2d(channels, a, 3)
        self.pool1 = nn.Sequential(nn.BatchNorm2d(a), act(), pool(2))
        self.conv2 = nn.Conv2d(a, b, 4)
        self.pool2 = nn.Sequential(nn.BatchNorm2d(b), act(), pool(2))
        self.conv3 = nn.Conv2d(b, c, 3)
        features = (nn.Flatten(), nn.Linear(c, d), nn.BatchNorm1d(d), act())
        self.fc = nn.Sequential(nn.BatchNorm2d(c), act(), *features)
        self.head = nn.Linear(d, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.image(self.pixels(x)))
        return self.head(self.fc(self.conv3(self.pool2(self.conv2(self.pool1(x))))))


class MLP(nn.Module):
    """A first layer of 128, two wide ones and one of 128, where separating is cheap; with batch norm and tanh."""

    def __init__(self, channels: int, side: int, width: float = 1) -> None:
        super().__init__()
        sizes = [channels * side**2, *(round(size * width) for size in (128, 512, 512, 128))]
        self.pixels = nn.Flatten()
        self.first, self.second, self.third, self.fourth = (
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.Tanh()) for a, b in pairwise(sizes)
        )
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fourth(self.third(self.second(self.first(self.pixels(x))))))


class Backbone(NamedTuple):
    """What the bare network of a cell depends on."""

    kind: str
    channels: int
    side: int
    first: int = 6
    width: float = 1

    @classmethod
    def of(cls, cell: Cell, channels: int, side: int) -> Backbone:
        return cls(cell.backbone, channels, side, cell.first, cell.width)


def bare(b: Backbone) -> nn.Module:
    """Return an untrained network without multiplexing."""
    if b.kind in ("lenet", "lenet-relu"):
        return LeNet(b.channels, b.first, b.width, modern=b.kind == "lenet-relu")
    if b.kind == "mlp":
        return MLP(b.channels, b.side, b.width)
    if b.kind == "resnet":
        sizes = tuple(round(size * b.width) for size in (32, 64, 128, 256))
        block, stem = timm.models.resnet.BasicBlock, round(8 * b.width)
        return timm.models.ResNet(
            block, (1, 1, 1, 1), 10, b.channels, stem_type="deep", stem_width=stem, channels=sizes
        )
    dim = 4 * round(16 * b.width)
    return timm.models.VisionTransformer(
        b.side, 4, b.channels, 10, "avg", embed_dim=dim, depth=3, num_heads=4, mlp_ratio=2, class_token=False
    )


def make(b: Backbone, configuration: str, n: int, demux: str, seed: int) -> nn.Module:
    """Return an untrained network: ``bare``, or ``strategy@mux_at``, such as ``layout:channels=8,hidden=(16,)@conv1@input``.

    The options after ``strategy:`` are written as in a call. Without ``@mux_at`` muxwrap finds the places by itself. The
    strategy ``apart`` is slots with a trunk that starts apart.
    """
    torch.manual_seed(seed)
    model = bare(b)
    if configuration == "bare":
        return model
    strategy, _, mux_at = configuration.partition("@")
    example = torch.zeros(1, b.channels, b.side, b.side)
    wrapped = muxwrap.wrap(
        model,
        n=n,
        strategy="slots" if strategy == APART else _with_options(strategy),
        demux=demux,
        mux_at=mux_at or None,
        demux_at=None if b.kind in ("resnet", "vit") else "head@input",
        example_input=example,
        seed=seed,
    )
    if strategy == APART:
        start_apart(wrapped, example)
    return wrapped


def _with_options(strategy: str) -> partial[strategies.Strategy]:
    """Return the strategy of ``name`` or ``name:options``."""
    name, _, options = RECORDED.get(strategy, strategy).partition(":")
    call = ast.parse(f"f({options})", mode="eval").body
    assert isinstance(call, ast.Call)
    values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return partial(strategies.registry.get(name), **values)


def operations(model: nn.Module, b: Backbone) -> float:
    """Return the floating-point operations per image."""
    return operations_of(model, lambda rows: torch.zeros(rows, b.channels, b.side, b.side))
