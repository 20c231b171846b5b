"""What a user is told where no pair of candidates works."""

from __future__ import annotations

from typing import NoReturn

from muxwrap._util.examples import ROWS
from muxwrap.errors import MuxwrapError
from muxwrap.site import percent
from muxwrap.sites.runs import rows
from muxwrap.sites.runs.runs import BARE_ROWS
from muxwrap.sites.search.in_parts import in_parts
from muxwrap.sites.search.ordering import Pair
from muxwrap.sites.search.pair import Tried
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.tracing.weight import LEAST, costliest, runs_often
from muxwrap.sites.trials.trial import Trial


def refuse(trial: Trial, pairs: list[Pair], tried: Tried) -> NoReturn:
    """Say what was tried, why it failed, and what to do instead.

    Raises:
        MuxwrapError: always.
    """
    _check_rows(trial)
    if not pairs or tried.light:
        raise MuxwrapError(f"{type(trial.backbone).__name__}: {_nothing_between(trial.trace)}")
    if not tried.failures:
        raise MuxwrapError(
            f"nothing runs between where {type(trial.backbone).__name__} is to mix and to separate: both are at the "
            f"{pairs[0][0][0]}. demux_at= names a module whose input is separated; 'path@output' is what it returns"
        )
    lines = "\n".join(f"  {line}" for line in dict.fromkeys(tried.failures))
    parts = in_parts(trial.trace)
    hints = runs_often(trial.trace) or (f". {parts}" if parts else "") or _read_between(trial, tried.failures)
    raise MuxwrapError(f"no way found to multiplex {_what(trial)} yourself{hints}. Tried:\n{lines}")


def _check_rows(trial: Trial) -> None:
    """Refuse a backbone whose rows do not come back, or depend on each other.

    Raises:
        MuxwrapError: they do.
    """
    for count in (BARE_ROWS, ROWS):
        bare = trial.runs.bare(False, count)
        if isinstance(bare, str) and "rows in" not in bare:
            raise MuxwrapError(rows.part_of_one(trial.backbone, BARE_ROWS, f"{count} copies of the first", bare))
        if isinstance(bare, str):
            shapes = [answer.shape for answer in trial.trace.answers if answer.floating]
            raise MuxwrapError(rows.no_rows(trial.backbone, shapes, BARE_ROWS))
    trial.matching.settle()


def _what(trial: Trial) -> str:
    name = type(trial.backbone).__name__
    if not trial.prefix:
        return f"{name}; name mux_at= and demux_at="
    return (
        f"{name} with a prefix of {trial.prefix} tokens before every mixture, which has to be a sequence of tokens all the "
        "way; take a demuxer without a prefix ('key', 'mlp', 'unbind'), or name mux_at= and demux_at="
    )


def _read_between(trial: Trial, failures: list[str]) -> str:
    """Return what to do where the backbone itself reads what comes with the rows, and no module is given it; or nothing."""
    given = [path for path, seen in trial.trace.visits[0].given.items() if seen.shape[:1] == (BARE_ROWS,)]
    if len(given) < 2 or not any("must match" in line for line in failures):
        return ""
    return (
        f". The backbone is given {' and '.join(given)} of the rows; what it reads of them between its modules is not merged: "
        "put that part into a module of its own and give it the tensor as an argument"
    )


def _nothing_between(trace: Trace) -> str:
    """Return why no pair of sites is worth anything, and which modules would have to be inside."""
    return (
        f"less than {percent(LEAST)} of the operations run between any two places where rows could be mixed and separated (a "
        "layer that makes the answers does not count). The modules that cost most would have to be between them: "
        f"{'; '.join(map(str, costliest(trace)))}. Name a module before them with mux_at= ('path@input' or 'path@output') and "
        f"one after them with demux_at={runs_often(trace)}"
    )
