"""What these examples share: scikit-learn's 1,797 scans of handwritten digits, and a small network for them."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def network() -> nn.Module:
    """Return a network for images of 8 × 8 pixels."""
    stem = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
    trunk = [nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*stem, *trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


EXAMPLE = torch.zeros(1, 1, 8, 8)
"""A call of the network, one row: by it muxwrap finds the sites."""


def digits(limit: int | None = None) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return images ``[rows, 1, 8, 8]`` and labels, to train on and to test."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[:limit]
    x, y = torch.from_numpy(data.images).float()[order, None], torch.from_numpy(data.target)[order]
    x, cut = (x - x.mean()) / x.std(), len(order) * 2 // 3
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def loader(rows: tuple[Tensor, Tensor], shuffle: bool = False) -> DataLoader:
    """Return batches of 64 rows; a new order every epoch gives every image new companions."""
    return DataLoader(TensorDataset(*rows), batch_size=64, shuffle=shuffle)
