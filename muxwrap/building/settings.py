"""What a user asks for, besides the backbone and how many rows share a mixture."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from muxwrap._hooks.components import CheckFinite
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.site import Sites
from muxwrap.sites import Choice


@dataclass(frozen=True, eq=False)
class Settings:
    """The arguments of :func:`muxwrap.wrap` that decide what is built; they are documented there."""

    strategy: StrategyChoice = None
    demux: DemuxChoice = None
    _: KW_ONLY
    mux_at: Choice = None
    demux_at: Choice = None
    example_input: Any = None
    sites: Sites | None = None
    seed: int = 0
    check_finite: CheckFinite = False
