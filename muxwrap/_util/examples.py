"""Running a model on an example: its rows, its mode and the random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.fast_path import without_fast_path
from muxwrap._util.held import held_tensors
from muxwrap._util.meta import shapes_only
from muxwrap._util.nested import first_tensor, map_tensors, new_containers, tensors_in
from muxwrap.errors import MuxwrapError

ROWS = 3  # over n=2: two mixtures, one of them incomplete, so that rows and mixtures cannot be taken for each other


@dataclass(frozen=True)
class Example:
    """A call of a model, and which of its tensors have no axis of rows: tables or a grid.

    With another number of rows, the first axis of a table may by chance be as long. A dataclass, so that what reaches the
    tensors in a value reaches those of the call.

    Args:
        call: a tensor, a tuple of arguments or a dict of keyword arguments.
        tables: the places of the tensors without rows, in the order of :func:`~muxwrap._util.nested.tensors_in`.
    """

    call: Any
    tables: frozenset[int] = frozenset()

    @classmethod
    def of(cls, call: Any) -> Example:
        """Return the example of a call, in which the tensors with another first axis than the first tensor have no rows."""
        first = first_tensor(call)
        rows = () if first is None else first.shape[:1]
        return cls(call, frozenset(at for at, value in enumerate(tensors_in(call)) if value.shape[:1] != rows))

    def tensors_with_rows(self) -> list[Tensor]:
        """Return the tensors that have the batch's rows: whose first axis is as long as the first tensor's."""
        first = first_tensor(self.call)
        tensors = [value for at, value in enumerate(tensors_in(self.call)) if at not in self.tables]
        return [] if first is None else [value for value in tensors if value.shape[:1] == first.shape[:1]]

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> Example:
        """Return the example with every tensor changed that has rows."""
        own = self.tensors_with_rows()
        changed: Example = map_tensors(self, lambda value: change(value) if _is_among(value, own) else value)
        return changed


def run(module: Callable[..., Any], call: Any) -> Any:
    """Call a module with a tensor, a tuple of arguments, a dict of keyword arguments, or an :class:`Example` of these."""
    args, kwargs = as_arguments(call)
    return module(*args, **kwargs)


def as_arguments(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, and those by keyword; see :func:`run`.

    Containers are new: a model may take things out of the dict that it is given, and the call is made again.
    """
    call = new_containers(call.call if isinstance(call, Example) else call)
    if isinstance(call, dict) or hasattr(call, "keys"):
        return (), dict(call)
    return (tuple(call) if isinstance(call, (tuple, list)) else (call,)), {}


def with_rows(call: Any, rows: int = ROWS) -> Any:
    """Return the call or the example with ``rows`` rows: its own, repeated or cut.

    Every tensor whose first axis is as long as the first tensor's is taken to have the batch's rows, but for those that an
    :class:`Example` knows to have none.
    """
    example = call if isinstance(call, Example) else Example(call)
    _check_layout(example.call)
    if first_tensor(example) is None:
        raise MuxwrapError(
            f"example_input={type(example.call).__name__} holds no tensor with rows; give one that the model accepts"
        )
    resized = example.map_rows(lambda value: value[torch.arange(rows, device=value.device) % value.shape[0]])
    return resized if isinstance(call, Example) else resized.call


def _check_layout(call: Any) -> None:
    """Refuse tensors that cannot be cut into rows.

    Raises:
        MuxwrapError: one is held by an object, or is sparse.
    """
    first = first_tensor(call)
    count = None if first is None else first.shape[0]
    held = next((path for path, value in held_tensors(call) if count is None or value.shape[:1] == (count,)), None)
    if held is not None:
        raise MuxwrapError(
            f"example_input{held} is a tensor in an object, which cannot be cut into rows; give the model tensors in tuples, "
            "lists, dicts or dataclasses"
        )
    sparse = next((value for value in tensors_in(call) if value.layout != torch.strided and value.ndim), None)
    if sparse is not None:
        raise MuxwrapError(
            f"example_input={type(call).__name__} holds a tensor of layout {sparse.layout}, whose rows cannot be indexed; "
            "give the model value.to_dense(), or wrap the part that follows the layer which reads it"
        )


def _is_among(value: Tensor, tensors: list[Tensor]) -> bool:
    return any(value is each for each in tensors)


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
