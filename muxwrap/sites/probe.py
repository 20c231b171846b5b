"""One bare run of a backbone, written down: which module ran when, on what, and what it gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.tensors import first_tensor

ROWS = 3  # over n=2: two mixtures, one of them incomplete, so that rows and mixtures cannot be taken for each other


@dataclass
class Visit:
    """One call of one module during the run."""

    path: str
    module: nn.Module
    entered: int
    input: Tensor | None
    left: int = -1
    output: Tensor | None = None

    @property
    def leaf(self) -> bool:
        """Whether the module has no modules inside."""
        return next(self.module.children(), None) is None


class Trace:
    """The visits of one run.

    Args:
        visits: in the order in which the modules were entered.
        output: what the backbone returned.
    """

    def __init__(self, visits: list[Visit], output: Any) -> None:
        self.visits = visits
        self.output = output
        counts: dict[str, int] = {}
        for visit in visits:
            counts[visit.path] = counts.get(visit.path, 0) + 1
        self.once = [visit for visit in visits if counts[visit.path] == 1]
        """The visits of modules that ran exactly once, which is what a site has to do."""

    def at(self, path: str) -> Visit | None:
        """Return the visit of a module that ran once."""
        return next((visit for visit in self.once if visit.path == path), None)

    def leaves(self) -> list[Visit]:
        """Return the once-run modules without children that have weights, in the order of their running."""
        return [visit for visit in self.once if visit.leaf and next(visit.module.parameters(), None) is not None]


def trace(backbone: nn.Module, example: Any) -> Trace:
    """Run the backbone once on ``example`` and write down every module's call.

    Raises:
        MuxwrapError: the bare backbone fails on the example.
    """
    visits: list[Visit] = []
    open_visits: list[Visit] = []
    names = {module: path for path, module in backbone.named_modules()}
    clock = iter(range(10**9))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        visit = Visit(names[module], module, next(clock), first_tensor((args, kwargs)))
        visits.append(visit)
        open_visits.append(visit)

    def leave(module: nn.Module, _args: Any, output: Any) -> None:
        visit = open_visits.pop()
        while visit.module is not module:  # a module inside raised and was caught by the backbone
            visit = open_visits.pop()
        visit.left, visit.output = next(clock), first_tensor(output)

    handles = []
    for module in names:
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        with quiet(backbone):
            output = run(backbone, example)
    except Exception as error:
        raise MuxwrapError(
            f"the bare {type(backbone).__name__} fails on the example of {ROWS} rows: {type(error).__name__}: {error}; "
            "give example_input= (a tensor, a tuple of arguments or a dict of keyword arguments) that it accepts"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return Trace(visits, output)


def run(module: nn.Module, example: Any) -> Any:
    """Call a module with an example: a tensor, a tuple of arguments, or a dict of keyword arguments."""
    if isinstance(example, dict) or hasattr(example, "keys"):
        return module(**example)
    return module(*example) if isinstance(example, (tuple, list)) else module(example)


def with_rows(example: Any, rows: int = ROWS) -> Any:
    """Return the example with ``rows`` rows: its own, repeated or cut.

    Every tensor whose first axis is as long as the first tensor's is taken to have the batch's rows.
    """
    first = first_tensor(example)
    if first is None:
        raise MuxwrapError(
            f"example_input={type(example).__name__} holds no tensor with rows; give one that the model accepts"
        )
    size = first.shape[0]

    def resize(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == size:
            return value[torch.arange(rows, device=value.device) % size]
        if isinstance(value, (tuple, list)):
            return type(value)(resize(part) for part in value)
        if hasattr(value, "keys"):
            return {key: resize(value[key]) for key in value.keys()}  # noqa: SIM118 - a BatchEncoding is no dict
        return value

    return resize(example)


def pixels(backbone: nn.Module, channels: int, height: int, width: int) -> Tensor:
    """Return one image of noise, always the same one, on the backbone's device and in its dtype."""
    weight = next(backbone.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, height, width, generator=generator, dtype=torch.float32, device="cpu")
    return image.to(device=weight.device, dtype=weight.dtype)


@contextmanager
def quiet(backbone: nn.Module) -> Iterator[None]:
    """Run in evaluation mode without gradients, and leave modes and random state as they were."""
    with evaluating(backbone), torch.random.fork_rng(), torch.no_grad():
        yield


@contextmanager
def evaluating(backbone: nn.Module) -> Iterator[None]:
    """Run in evaluation mode, and leave every module's mode as it was."""
    modes = [(module, module.training) for module in backbone.modules()]
    try:
        backbone.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
