"""The demo's images: scikit-learn's handwritten digits, or a folder in MNIST's format."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._demo.idx import read_idx
from muxwrap.errors import MuxwrapError


class Split(NamedTuple):
    """Images ``[rows, 1, side, side]``, of mean 0 and deviation 1 over the training images, and their labels."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """Number of different labels that there may be."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1

    def first(self, rows: int | None) -> Split:
        """Return the first images to train on and to test, None for all of them."""
        return Split(self.name, *(each[:rows] for each in self[1:]))


def digits() -> Split:
    """1,797 real scans of 8 × 8 pixels: two thirds to train on, one third to test, always the same ones.

    Raises:
        MuxwrapError: scikit-learn, which ships them, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MuxwrapError(
            "demo: scikit-learn, which ships the images, is not installed; pip install 'muxwrap[demo]', or give "
            "the folder of MNIST's four files with --data"
        ) from error
    data = load_digits()
    return _standard(
        _split("digits", torch.from_numpy(data.images).float().unsqueeze(1), torch.from_numpy(data.target))
    )


def mnist_format(folder: str) -> Split:
    """Read the four idx files of MNIST or of a data set like it, gzipped or not.

    Raises:
        MuxwrapError: a file is missing, or is something else.
    """
    try:
        train, test = (_idx(Path(folder), name) for name in ("train", "t10k"))
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise MuxwrapError(
            f"demo --data {folder}: {error}; give a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not"
        ) from error
    return _standard(Split(Path(folder).resolve().name, *train, *test))


def held_out(data: Split) -> Split:
    """Replace the test images by a quarter of the training images, to choose hyper-parameters."""
    return _split(data.name, data.train_x, data.train_y, test_size=0.25)


def jitter(x: Tensor, turn: float = 0.08, zoom: float = 0.05, shift: float = 0.11) -> Tensor:
    """Turn, zoom and shift every image a little (radians, share of the size, share of half the image)."""
    rows = len(x)
    angle = (torch.rand(rows, device=x.device) * 2 - 1) * turn
    size = 1 + (torch.rand(rows, device=x.device) * 2 - 1) * zoom
    moved = (torch.rand(rows, 2, device=x.device) * 2 - 1) * shift
    cos, sin = size * angle.cos(), size * angle.sin()
    affine = torch.stack([cos, -sin, moved[:, 0], sin, cos, moved[:, 1]], dim=1).view(rows, 2, 3)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


def _standard(data: Split) -> Split:
    """Subtract the mean: what all images share tells none of them apart, and in a mixture it would add up."""
    std, mean = torch.std_mean(data.train_x)
    return data._replace(train_x=(data.train_x - mean) / std, test_x=(data.test_x - mean) / std)


def _split(name: str, x: Tensor, y: Tensor, test_size: float = 1 / 3) -> Split:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(y)), test_size=test_size, random_state=0, stratify=y.numpy())
    return Split(name, x[train], y[train], x[test], y[test])


def _idx(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    images, labels = (read_idx(folder / f"{name}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if images.ndim != 3 or images.shape[1] != images.shape[2] or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(
            f"{name} has images {list(images.shape)} and labels {list(labels.shape)}, not square with one each"
        )
    return images.float().unsqueeze(1), labels.long()
