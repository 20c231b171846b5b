"""The study's images, whole in memory: MNIST, Fashion-MNIST and a subset of CIFAR-10, in their publishers' formats."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = {"mnist": 20, "fashion-mnist": 20, "cifar10-subset": 32}
HELD_OUT = 5000  # training images at most that choose between recipes and are never trained on


class Part(NamedTuple):
    """Images ``[rows, C, H, W]`` and their labels."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Part:
        return Part(self.images.to(device), self.labels.to(device))


class Data(NamedTuple):
    """Training images are larger than ``side`` by what they may be shifted; the others are not."""

    name: str
    side: int
    train: Part
    select: Part
    test: Part

    @property
    def channels(self) -> int:
        return self.test.images.shape[1]

    def to(self, device: torch.device) -> Data:
        return Data(self.name, self.side, *(part.to(device) for part in self[2:]))


def load(name: str, folder: Path, shift: int, limit: int | None = None) -> Data:
    """Read a data set; its last tenth of training images, 5,000 at most, is held out.

    MNIST is cut to the middle 20 x 20 pixels, as in DataMUX's notebook. Fashion-MNIST fills its 28 x 28 pixels and is
    shrunk to 20 x 20 by area. All are shifted and scaled to mean 0 and deviation 1 over the training images.

    Args:
        name: a folder's name inside ``folder``.
        folder: where the data sets lie.
        shift: pixels that training images may be shifted by, in either direction.
        limit: rows of every part at most, for a trial.
    """
    train, test = (_cifar if name == "cifar10-subset" else _idx)(folder / name)
    if name == "fashion-mnist":
        train, test = (Part(F.interpolate(part.images, (20, 20), mode="area"), part.labels) for part in (train, test))
    train, test = (Part(part.images[:limit], part.labels[:limit]) for part in (train, test))
    kept = len(train.labels) - min(HELD_OUT, len(train.labels) // 10)
    std, mean = torch.std_mean(train.images[:kept], (0, 2, 3), keepdim=True)
    side, edge = SIDES[name], -mean / std  # of a black pixel, which is what lies around an image

    def framed(part: Part, margin: int) -> Part:
        images = (part.images - mean) / std
        around = (side + 2 * margin - images.shape[-1]) // 2  # negative where pixels are cut off
        if around > 0:
            images = F.pad(images - edge, [around] * 4) + edge
        elif around < 0:
            images = images[..., -around:around, -around:around].contiguous()
        return Part(images, part.labels)

    fit, select = (Part(train.images[rows], train.labels[rows]) for rows in (slice(kept), slice(kept, None)))
    return Data(name, side, framed(fit, shift), framed(select, 0), framed(test, 0))


def moved(images: Tensor, side: int, flip: bool) -> Tensor:
    """Cut every image to ``side`` at a random place, and turn it left to right or not if ``flip``."""
    rows, range_, device = len(images), images.shape[-1] - side + 1, images.device
    if range_ > 1:
        windows = images.unfold(2, side, 1).unfold(3, side, 1)  # a view: [rows, C, range, range, side, side]
        down, right = torch.randint(range_, (2, rows), device=device)
        images = windows[torch.arange(rows, device=device), :, down, right]
    if flip:
        images = torch.where(torch.rand(rows, 1, 1, 1, device=device) < 0.5, images.flip(-1), images)
    return images


def _idx(folder: Path) -> list[Part]:
    found = []
    for part in ("train", "t10k"):
        images, labels = (_bytes(folder / f"{part}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        side = int.from_bytes(images[8:12].tobytes(), "big")  # the header: magic number, rows, height, width
        pixels = torch.from_numpy(images[16:].reshape(-1, 1, side, side).copy()).float()
        found.append(Part(pixels, torch.from_numpy(labels[8:].copy()).long()))
    return found


def _cifar(folder: Path) -> list[Part]:
    found = []
    for part in ("train", "test"):
        (path,) = folder.glob(f"cifar10_{part}_*.bin.xz")
        rows = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8).reshape(-1, 3073)
        pixels = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()).float()
        found.append(Part(pixels, torch.from_numpy(rows[:, 0].copy()).long()))
    return found


def _bytes(path: Path) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
