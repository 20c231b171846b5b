"""The factor of a mixture's sum, by name or as a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError, known_names

_EXPONENTS = {"mean": -1.0, "sqrt": -0.5, "sum": 0.0}  # of n


def scale_factor(scale: str | float, n: int) -> float:
    """Return the number that ``scale`` stands for with n instances.

    Raises:
        MuxwrapError: an unknown name, or a number that cannot be undone (zero, infinite or not a number).
    """
    if isinstance(scale, str):
        if scale not in _EXPONENTS:
            raise MuxwrapError(f"scale={scale!r} is unknown; {known_names(scale, _EXPONENTS)}, or give a number")
        return float(n ** _EXPONENTS[scale])
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale) or scale == 0:
        raise MuxwrapError(f"scale={scale!r} is not a finite number other than 0. {known_names('', _EXPONENTS)}")
    return float(scale)


def scaled_sum(x: Tensor, axis: int, factor: float) -> Tensor:
    """Sum over an axis and scale, in float32 where ``x`` is half precision, in whose range the sum itself need not be."""
    total = x.sum(axis, dtype=torch.promote_types(x.dtype, torch.float32))
    return (total * factor).to(x.dtype)
