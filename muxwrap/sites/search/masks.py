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
    """Whether modules after which is mixed are given the backbone's very inputs, and the batch is ids."""
    batch = seen.visits[0].input
    return batch is not None and batch.ids is not None and _reads_batch(seen, mux, floating=False)


def _reads_batch(seen: Trace, mux: tuple[Site, ...], floating: bool) -> bool:
    """Whether modules after which is mixed are given the very batch that the backbone is given, and its other inputs."""
    batch = seen.visits[0].input
    if batch is None or batch.floating is not floating:
        return False
    visits = [seen.at(site.path) for site in mux if site.side == "output"]
    read = [visit.input for visit in visits if visit is not None and visit.path]
    return len(read) == len(mux) and batch in read and all(each in seen.given for each in read)


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer + ".")
