"""How a backbone may take its mask, and by which module: each is tried."""

from __future__ import annotations

from itertools import product

from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.meta import on_meta
from muxwrap.site import MaskMode, Site
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.trials.trial import Trial


def mask_modes(trial: Trial, mux: tuple[Site, ...]) -> list[tuple[MaskMode, str]]:
    """Return how the mask may be taken, and by which module: the model inside a head, or the whole backbone."""
    seen = trial.trace
    if not trial.masked:
        sized = trial.ids_stood_in if reads_ids(seen, mux) else _reads_batch(seen, mux, floating=True)
        return [(MaskMode.NONE, ""), (MaskMode.SIZE, "")] if sized else [(MaskMode.NONE, "")]
    inside = [
        v.path for v in seen.once if v.path and takes_mask(v.module) and all(_within(s.path, v.path) for s in mux)
    ]
    places = [*inside[:1], ""]
    if on_meta(trial.backbone):  # more merging makes shapes fit, and only values would show that it is wrong
        return [*product((MaskMode.OPTIONAL, MaskMode.ALWAYS), places)]
    modes = (MaskMode.OPTIONAL, MaskMode.ALWAYS, MaskMode.BOTH)
    return [*product(modes, places), (MaskMode.INSIDE, "")]


def reads_ids(seen: Trace, mux: tuple[Site, ...]) -> bool:
    """Whether every module after which is mixed is given the very batch that the backbone is given, and that is ids."""
    batch = seen.visits[0].input
    return batch is not None and batch.ids is not None and _reads_batch(seen, mux, floating=False)


def _reads_batch(seen: Trace, mux: tuple[Site, ...], floating: bool) -> bool:
    """Whether every module after which is mixed is given the very batch that the backbone is given."""
    batch = seen.visits[0].input
    if batch is None or batch.floating is not floating:
        return False
    visits = [seen.at(site.path) for site in mux if site.side == "output"]
    return len(visits) == len(mux) and all(
        visit is not None and visit.path and visit.input is batch for visit in visits
    )


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer + ".")
