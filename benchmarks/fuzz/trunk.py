"""What runs between the sites: which rows every module sees, and how many of the multiplications lie there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fuzz.model import parts_of
from muxwrap import Multiplex, Sites


@dataclass(frozen=True)
class Passage:
    """One call of a module.

    Args:
        path: the module's name.
        shape: of the first tensor that it was given.
        in_trunk: whether all was mixed and nothing separated by then.
    """

    path: str
    shape: tuple[int, ...]
    in_trunk: bool

    def has_rows(self, rows: int) -> bool:
        """Whether one of the first two axes may hold so many rows, alone or with tokens."""
        return any(size % rows == 0 for size in self.shape[:2])


@contextmanager
def observed(backbone: nn.Module, sites: Sites) -> Iterator[list[Passage]]:
    """Collect what every module is given, in the order of the calls."""
    passages: list[Passage] = []
    reached = {"mux": 0, "demux": 0}

    def see(path: str, args: Any, kwargs: Any) -> None:
        tensors = parts_of((args, kwargs))[1]
        if tensors:
            in_trunk = reached["mux"] == len(sites.mux) and not reached["demux"]
            passages.append(Passage(path, tuple(next(iter(tensors.values())).shape), in_trunk))

    handles = list(_at_sites(backbone, sites, lambda side: reached.update({side: reached[side] + 1})))
    for path, module in backbone.named_modules():
        handles.append(module.register_forward_pre_hook(_before(see, path), with_kwargs=True))
    try:
        yield passages
    finally:
        for handle in handles:
            handle.remove()


def _before(see: Callable[..., None], path: str) -> Callable[..., None]:
    return lambda _module, args, kwargs: see(path, args, kwargs)


def _at_sites(backbone: nn.Module, sites: Sites, reached: Callable[[str], Any]) -> Iterator[Any]:
    """Tell when instances were mixed, and when they are about to be separated."""
    for side, named in (("mux", sites.mux), ("demux", sites.demux)):
        first = side == "demux"
        for site in named:
            module = backbone.get_submodule(site.path)
            if site.side == "input":
                yield module.register_forward_pre_hook(lambda *_, side=side: reached(side), prepend=first)  # type: ignore[misc]
            else:
                yield module.register_forward_hook(lambda *_, side=side: reached(side), prepend=first)  # type: ignore[misc]


def share_of(wrapped: Multiplex, ask: Callable[[], Any]) -> float:
    """Return which part of the bare model's multiplications run where more was mixed than separated."""
    passed: list[tuple[str, int]] = []
    with FlopCounterMode(display=False) as counter:
        handles = list(
            _at_sites(
                wrapped.backbone, wrapped.sites, lambda side: passed.append((side, int(counter.get_total_flops())))
            )
        )
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its products are not counted
        try:
            ask()
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for handle in handles:
                handle.remove()
    total = int(counter.get_total_flops())
    return _between(passed) / total if total else 0.0


def _between(passed: list[tuple[str, int]]) -> int:
    """Return the multiplications while more was mixed than separated; ``passed`` are the sites, and the count at each."""
    open_, done, since = 0, 0, 0
    for side, count in passed:
        done += count - since if open_ > 0 else 0
        since, open_ = count, open_ + (1 if side == "mux" else -1)
    return done
