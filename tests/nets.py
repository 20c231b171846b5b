"""Small user-written networks, and how to call them; shared by the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Vectors ``[B, 12]`` to 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 16)
        self.hidden = nn.Linear(16, 20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(torch.tanh(self.stem(x)))))


class CNN(nn.Module):
    """Images ``[B, 2, H, W]`` to 5 classes, with batch normalisation and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.layer = nn.Conv2d(16, 20, 3, stride=2, padding=1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.layer(torch.relu(self.norm(self.stem(x))))).mean((2, 3)))


class Residual(nn.Module):
    """Images ``[B, 1, H, W]`` to 5 classes: a stem, a trunk of one residual block without a norm, a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.block = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.back = nn.Conv2d(2 * width, width, 1)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head((h + self.back(self.block(h).relu())).mean((2, 3)))


class Tagger(nn.Module):
    """Token ids ``[B, L]`` to 5 classes a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(ids)))


class Net(NamedTuple):
    """A backbone's class and a batch for it."""

    make: Callable[[], nn.Module]
    batch: Callable[[int, torch.Generator], Tensor]


NETS = {
    "mlp": Net(MLP, lambda rows, rng: torch.randn(rows, 12, generator=rng)),
    "cnn": Net(CNN, lambda rows, rng: torch.randn(rows, 2, 6, 6, generator=rng)),
    "tagger": Net(Tagger, lambda rows, rng: torch.randint(30, (rows, 7), generator=rng)),
}


def make(name: str, seed: int = 0) -> nn.Module:
    """Return the backbone with weights fixed by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETS[name].make()


def batch(name: str, rows: int, seed: int = 0) -> Tensor:
    """Return a batch fixed by ``seed``."""
    return NETS[name].batch(rows, torch.Generator().manual_seed(seed))
