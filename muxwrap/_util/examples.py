"""Running a model on an example: its rows, its mode and the random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from muxwrap._util.fast_path import without_fast_path
from muxwrap._util.meta import shapes_only
from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError

ROWS = 3  # over n=2: two mixtures, one of them incomplete, so that rows and mixtures cannot be taken for each other


def run(module: Callable[..., Any], example: Any) -> Any:
    """Call a module with an example: a tensor, a tuple of arguments, or a dict of keyword arguments."""
    if isinstance(example, dict) or hasattr(example, "keys"):
        return module(**example)
    return module(*example) if isinstance(example, (tuple, list)) else module(example)


def with_rows(example: Any, rows: int = ROWS) -> Any:
    """Return the example with ``rows`` rows: its own, repeated or cut.

    Every tensor whose first axis is as long as the first tensor's is taken to have the batch's rows, but for those that
    :func:`keeping` has seen with another number of rows.
    """
    first = first_tensor(example)
    if first is None:
        raise MuxwrapError(
            f"example_input={type(example).__name__} holds no tensor with rows; give one that the model accepts"
        )
    size = first.shape[0]

    def resize(value: Tensor) -> Tensor:
        if not has_rows(value, size):
            return value
        return value[torch.arange(rows, device=value.device) % size]

    return map_tensors(example, resize)


def has_rows(value: Tensor, rows: int) -> bool:
    """Whether a tensor of an example has so many rows, and not just as long an axis."""
    return value.shape[:1] == (rows,) and value not in _WITHOUT_ROWS


def keeping(example: Any) -> Any:
    """Return an example that knows which of its tensors have no rows: tables or a grid, with another first axis."""
    first = first_tensor(example)

    def keep(value: Tensor) -> Tensor:
        if first is None or value.ndim == 0 or value.shape[0] == first.shape[0]:
            return value
        alias = value.view_as(value)  # the user's own tensor may have rows in another example
        _WITHOUT_ROWS[alias] = True
        return alias

    return map_tensors(example, keep)


_WITHOUT_ROWS: Any = WeakIdKeyDictionary()


def pixels(backbone: nn.Module, channels: int, height: int, width: int) -> Tensor:
    """Return one image of noise, always the same one, on the backbone's device and in its dtype."""
    weight = next(backbone.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, height, width, generator=generator, dtype=torch.float32, device="cpu")
    return image.to(device=weight.device, dtype=weight.dtype)


@contextmanager
def quiet(*modules: nn.Module) -> Iterator[None]:
    """Run in evaluation mode without gradients, and leave modes and random state as they were.

    What has no memory is run for its shapes. Hooks see what passes: torch's fused transformer layers, which hide it in nested
    tensors, are off.
    """
    with evaluating(*modules), torch.random.fork_rng(), torch.no_grad(), without_fast_path(), shapes_only(*modules):
        yield


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Run in evaluation mode, and leave every module's mode as it was."""
    with in_mode(*modules, training=False):
        yield


@contextmanager
def in_mode(*modules: nn.Module, training: bool) -> Iterator[None]:
    """Run in training or evaluation mode, and leave every module's mode as it was."""
    modes = [(each, each.training) for module in modules for each in module.modules()]
    try:
        for module in modules:
            module.train(training)
        yield
    finally:
        for each, mode in modes:
            each.training = mode
