"""Backbones most of which runs on several rows per row of the call: the sentences of a text, the frames of a film."""

from __future__ import annotations

from muxwrap.sites.runs.runs import BARE_ROWS
from muxwrap.sites.tracing.trace import Trace, Visit
from muxwrap.sites.tracing.weight import HALF


def in_parts(trace: Trace) -> str:
    """Return which module that is, and what to do; nothing where there is none with half of the operations."""
    visit = next((visit for visit in trace.visits[1:] if _runs_on_parts(trace, visit)), None)
    if visit is None or visit.input is None:
        return ""
    return (
        f"{visit.path!r} runs on {visit.input.shape[0] // BARE_ROWS} rows per row of the call, which share mixtures with each "
        f"other: wrap that part alone, and put the wrapped part in its place: model.{visit.path} = muxwrap.wrap(model."
        f"{visit.path}, n=...)"
    )


def _runs_on_parts(trace: Trace, visit: Visit) -> bool:
    rows = visit.input.shape[0] if visit.input is not None and visit.input.ndim > 1 else 0
    several = rows > BARE_ROWS and rows % BARE_ROWS == 0
    whole = visit.output is not None and visit.output.shape[:1] == (rows,)
    return several and whole and visit.after - visit.before > HALF * trace.operations
