"""Several places to mix and to separate: in branches beside each other, or one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.nested import map_tensors, tensors_in
from muxwrap.site import Site
from muxwrap.sites.runs.dry_run import answers, hook_at
from muxwrap.sites.runs.runs import BARE_ROWS, Runs
from muxwrap.sites.search.ordering import Pair, passed


def chained(runs: Runs, pair: Pair) -> bool:
    """Whether what is separated at one place is mixed again at another.

    That costs twice, and the rows that fill the last group would bring their companions there. In a bare run what passes at a
    demux site is made NaN, and looked for at the mux sites that are reached later, or again.
    """
    mux, demux = pair
    for end in demux:
        when = passed(runs.trace, end)
        later = [site for site in mux if passed(runs.trace, site) > when >= 0 or min(site.times, end.times) > 1]
        if later and _reached(runs.backbone, runs.call(False, BARE_ROWS), end, later):
            return True
    return False


def _reached(backbone: nn.Module, call: Any, end: Site, later: list[Site]) -> bool:
    found: list[bool] = []

    def spoil(_site: Site, value: Any) -> Any:
        return map_tensors(value, lambda x: torch.full_like(x, torch.nan) if x.is_floating_point() else x)

    def look(_site: Site, value: Any) -> None:
        found.extend(_is_spoilt(x) for x in tensors_in(value))

    handles = [hook_at(backbone, end, spoil), *(hook_at(backbone, site, look) for site in later)]
    try:
        answers(backbone, call, BARE_ROWS)
    finally:
        for handle in handles:
            handle.remove()
    return any(found)


def _is_spoilt(x: Tensor) -> bool:
    return x.is_floating_point() and bool(x.isnan().any())
