"""The demo's images: scikit-learn's handwritten digits, or a folder in MNIST's format."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


class Split(NamedTuple):
    """Images ``[rows, 1, side, side]``, of mean 0 and deviation 1 over the training images, and their labels."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits() -> Split:
    """1,797 real scans of 8 × 8 pixels: two thirds to train on, one third to test, always the same ones."""
    data = load_digits()
    return _standard(
        _split("digits", torch.from_numpy(data.images).float().unsqueeze(1), torch.from_numpy(data.target))
    )


def mnist_format(folder: str) -> Split:
    """The four idx files of MNIST and of its many siblings, packed or not."""
    images = {part: _idx(folder, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")}
    labels = {part: _idx(folder, f"{part}-labels-idx1-ubyte").long() for part in ("train", "t10k")}
    x = {part: each.float().unsqueeze(1) for part, each in images.items()}
    return _standard(Split(Path(folder).resolve().name, x["train"], labels["train"], x["t10k"], labels["t10k"]))


def held_out(data: Split) -> Split:
    """Put a quarter of the training images in the place of the test images: to choose hyper-parameters on."""
    return _split(data.name, data.train_x, data.train_y, test_size=0.25)


def jitter(x: Tensor, turn: float = 0.08, zoom: float = 0.05, shift: float = 0.11) -> Tensor:
    """Turn, zoom and shift every image a little (radians, parts of the size, parts of half the image)."""
    rows = len(x)
    angle = (torch.rand(rows, device=x.device) * 2 - 1) * turn
    size = 1 + (torch.rand(rows, device=x.device) * 2 - 1) * zoom
    moved = (torch.rand(rows, 2, device=x.device) * 2 - 1) * shift
    cos, sin = size * angle.cos(), size * angle.sin()
    affine = torch.stack([cos, -sin, moved[:, 0], sin, cos, moved[:, 1]], dim=1).view(rows, 2, 3)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


def _standard(data: Split) -> Split:
    """Take the mean off: what all images share says nothing about any of them, and in a mixture it would add up."""
    std, mean = torch.std_mean(data.train_x)
    return data._replace(train_x=(data.train_x - mean) / std, test_x=(data.test_x - mean) / std)


def _split(name: str, x: Tensor, y: Tensor, test_size: float = 1 / 3) -> Split:
    train, test = train_test_split(np.arange(len(y)), test_size=test_size, random_state=0, stratify=y.numpy())
    return Split(name, x[train], y[train], x[test], y[test])


def _idx(folder: str, name: str) -> Tensor:
    path = Path(folder) / name
    packed = path.with_name(f"{name}.gz")
    if not path.exists() and not packed.exists():
        raise SystemExit(f"--data {folder}: neither {name} nor {name}.gz is there")
    raw = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    axes = raw[3]  # the magic number is 0, 0, 8 (unsigned bytes), number of axes; their sizes follow
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * axes + math.prod(shape):
        raise SystemExit(f"--data {folder}: {name} is no idx file of unsigned bytes")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
