"""One bare run of a backbone, written down: which module ran when, on what, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from muxwrap._util.examples import ROWS, quiet, run
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError


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
