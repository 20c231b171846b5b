"""Calls with padding, for trying how a backbone takes its mask."""

from __future__ import annotations

from typing import Any

import torch

from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.examples import with_rows
from muxwrap._util.nested import first_tensor


def padded(example: Any, rows: int) -> dict[str, Any]:
    """Return keyword arguments of ``rows`` rows, some tokens of the first half of which are masked out.

    Of four rows those that share a mixture also share their mask, so that each is comparable with the bare model's;
    mixtures differ, so that a mask that gets to another mixture is noticed.
    """
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    arguments = with_rows(arguments, rows)
    tokens = first_tensor(arguments)
    assert tokens is not None
    shape = tokens.shape[:2] if tokens.is_floating_point() else tokens.shape
    mask = torch.ones(shape, dtype=torch.long, device=tokens.device)
    mask[: rows // 2] *= unmasked(shape[-1], mask.device)
    own = (name for name in arguments if name.endswith(MASK) and tokens.is_floating_point())
    return {**arguments, next(own, MASK): mask}  # a mask of patches has a name of its own


def unmasked(length: int, device: torch.device) -> torch.Tensor:
    """Return which positions stay in :func:`padded`: among others the first and the last, which a head may read."""
    at = torch.arange(length, device=device)
    return (at < length // 4) | (at >= length // 2)
