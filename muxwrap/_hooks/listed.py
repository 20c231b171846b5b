"""What is returned as numbers of Python or numpy, made of tensors on the way: the sizes it has, as tensors have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muxwrap._util.nested import children


def listed(value: Any, path: str = "", skip: Callable[[object], bool] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield a tensor for every list and array in a value, and the path to it; the value itself is no list of rows.

    A list is told by its length alone, as a tensor ``[length]`` without numbers: it holds whatever was made of the rows. An
    array is a tensor of the same numbers, or without them where torch has none of their type.

    Args:
        value: where to look.
        path: of the value itself.
        skip: which keys and fields to leave out, with all that is in them.
    """
    if isinstance(value, np.ndarray):
        yield path, torch.tensor(value) if value.dtype.kind in "biuf" else _sized(value.shape)
    elif path and type(value) in (list, tuple):
        yield path, _sized((len(value),))
    for key, step, part in children(value):
        if skip is None or not skip(key):
            yield from listed(part, path + step, skip)


def _sized(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.long, device="meta")
