"""The study's images, whole in memory: MNIST, Fashion-MNIST and a subset of CIFAR-10, in their publishers' formats."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._demo.idx import read_idx

SIDES = {"mnist": 20, "fashion-mnist": 20, "cifar10-subset": 32}
HELD_OUT = 5000  # training images at most that are left out of training; selection uses them


class Split(NamedTuple):
    """Images ``[rows, C, H, W]`` and their labels ``[rows]``."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


class Data(NamedTuple):
    """A data set; training images are larger than ``side`` by what they may be shifted, the others are not."""

    name: str
    side: int
    train: Split
    select: Split
    test: Split

    @property
    def channels(self) -> int:
        return self.test.images.shape[1]

    def to(self, device: torch.device) -> Data:
        return Data(self.name, self.side, *(split.to(device) for split in self[2:]))


def load(name: str, folder: Path, shift: int, limit: int | None = None) -> Data:
    """Read a data set; its last tenth of training images, 5,000 at most, is held out.

    MNIST is cut to the middle 20 x 20 pixels, as in DataMUX's notebook. Fashion-MNIST fills its 28 x 28 pixels and is
    shrunk to 20 x 20 by area. All are shifted and scaled to mean 0 and deviation 1 over the training images.

    Args:
        name: a folder's name inside ``folder``.
        folder: where the data sets lie.
        shift: pixels that training images may be shifted by, in either direction.
        limit: rows of every split at most, for a trial.
    """
    train, test = (cifar10 if name == "cifar10-subset" else _idx)(folder / name)
    if name == "fashion-mnist":
        train, test = (Split(F.interpolate(each.images, (20, 20), mode="area"), each.labels) for each in (train, test))
    train, test = (Split(each.images[:limit], each.labels[:limit]) for each in (train, test))
    rows = len(train.labels) - min(HELD_OUT, len(train.labels) // 10)
    std, mean = torch.std_mean(train.images[:rows], (0, 2, 3), keepdim=True)
    side, edge = SIDES[name], -mean / std  # of a black pixel, which is what lies around an image

    def framed(split: Split, margin: int) -> Split:
        images = (split.images - mean) / std
        around = (side + 2 * margin - images.shape[-1]) // 2  # negative where pixels are cut off
        if around > 0:
            images = F.pad(images - edge, [around] * 4) + edge
        elif around < 0:
            images = images[..., -around:around, -around:around].contiguous()
        return Split(images, split.labels)

    fit, select = (Split(train.images[each], train.labels[each]) for each in (slice(rows), slice(rows, None)))
    return Data(name, side, framed(fit, shift), framed(select, 0), framed(test, 0))


def moved(images: Tensor, side: int, flip: bool) -> Tensor:
    """Cut every image to ``side`` at a random place, and mirror every second one at random if ``flip``."""
    rows, range_, device = len(images), images.shape[-1] - side + 1, images.device
    if range_ > 1:
        windows = images.unfold(2, side, 1).unfold(3, side, 1)  # a view: [rows, C, range, range, side, side]
        down, right = torch.randint(range_, (2, rows), device=device)
        images = windows[torch.arange(rows, device=device), :, down, right]
    if flip:
        images = torch.where(torch.rand(rows, 1, 1, 1, device=device) < 0.5, images.flip(-1), images)
    return images


def _idx(folder: Path) -> list[Split]:
    found = []
    for name in ("train", "t10k"):
        images, labels = (read_idx(folder / f"{name}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        found.append(Split(images.unsqueeze(1).float(), labels.long()))
    return found


def cifar10(folder: Path) -> list[Split]:
    """Return the training and the test images of the subset, pixels from 0 to 255."""
    found = []
    for name in ("train", "test"):
        (path,) = folder.glob(f"cifar10_{name}_*.bin.xz")
        rows = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8).reshape(-1, 3073)
        pixels = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()).float()
        found.append(Split(pixels, torch.from_numpy(rows[:, 0].copy()).long()))
    return found
