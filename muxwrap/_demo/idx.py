"""The idx format, in which MNIST and its many siblings are published."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_idx(path: Path) -> Tensor:
    """Return an idx file of unsigned bytes as a tensor.

    Args:
        path: the file; where it does not exist, the gzipped one with ``.gz`` appended is read.

    Raises:
        FileNotFoundError: neither file exists.
        ValueError: the content is something else.
    """
    packed = path.with_name(f"{path.name}.gz")
    if not path.exists() and not packed.exists():
        raise FileNotFoundError(f"neither {path.name} nor {packed.name} is there")
    raw = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    axes = int.from_bytes(
        raw[3:4], "big"
    )  # the magic number is 0, 0, 8 (unsigned bytes), number of axes; their sizes follow
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(f"{path.name} is not an idx file of unsigned bytes")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
