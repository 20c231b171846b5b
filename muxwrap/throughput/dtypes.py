"""The dtypes that a model is measured in, and what a processor has for bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from muxwrap._util.nested import map_tensors
from muxwrap.errors import MuxwrapError

DtypeChoice = torch.dtype | str | Iterable[torch.dtype | str] | None

CANDIDATES = (torch.float32, torch.bfloat16)
"""What ``"auto"`` tries: both have the same range. In float16 large values overflow, so it is taken on request only."""

INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
"""Instructions for products of bfloat16, the fastest first: matrix units on x86, vectors on x86, and those of Arm."""


def bfloat16_instructions() -> str | None:
    """Return the processor's fastest instructions for products of bfloat16, or None where they are emulated.

    The processor itself is asked, through ``torch.cpu.get_capabilities``: a virtual machine may hide instructions. A torch
    that cannot ask (before that function) counts as one without.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        return None
    capabilities = torch.cpu.get_capabilities()
    return next((name for name in INSTRUCTIONS if capabilities.get(name)), None)


def dtypes_of(choice: DtypeChoice) -> list[torch.dtype | None]:
    """Return the dtypes that are named; None is the model's own.

    Raises:
        MuxwrapError: a name is not that of a floating-point dtype.
    """
    if choice is None or isinstance(choice, (str, torch.dtype)):
        return [None if choice is None else _dtype(choice)]
    return [_dtype(each) for each in choice]


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the dtype of the first weight that is a floating-point number."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def in_dtype(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Return the model itself where its weights have the dtype, else a copy: casting back would not restore it."""
    return model if dtype in (None, dtype_of(model)) else copy.deepcopy(model).to(dtype)


def example_in_dtype(example: Any, dtype: torch.dtype | None) -> Any:
    """Return the example with its floating-point tensors in the dtype."""
    if dtype is None:
        return example
    return map_tensors(example, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _dtype(choice: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, choice, None) if isinstance(choice, str) else choice
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise MuxwrapError(f'dtype={choice!r} is not a floating-point dtype; give one such as "bfloat16", or "auto"')
    return found
