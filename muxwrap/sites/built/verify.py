"""The first run of a model that was just built."""

from __future__ import annotations

from typing import NamedTuple

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._util.examples import ROWS, Example, quiet
from muxwrap.errors import MuxwrapError
from muxwrap.sites.built.kept import Kept, keeping, of_mixtures
from muxwrap.sites.runs.dry_run import answers, mixing_fails, padded
from muxwrap.sites.runs.runs import PADDED_ROWS
from muxwrap.sites.tracing.operations import OperationCounter


class FirstRun(NamedTuple):
    """What the first run of a freshly built model told."""

    operations: float = 0.0
    """That it made, or 0 where what runs does not go together with counting."""
    of_mixtures: tuple[str, ...] = ()
    """Attributes on which the model keeps a row per mixture."""


def verify(components: Components, example: Example) -> FirstRun:
    """Run a freshly built model once.

    A call with padding differs from one without only where instances are mixed, so it is run no further.

    Raises:
        MuxwrapError: the strategy or the demuxer does not work there.
    """
    outcome: object = None
    counter, kept = OperationCounter(), Kept()
    with quiet(*components.added):
        if components.sites.masked:
            outcome = mixing_fails(components, padded(example, PADDED_ROWS))
        if outcome is None:
            with attached(components) as multiplexed:
                call = keeping(components.backbone, multiplexed, kept)
                with counter:
                    outcome = answers(components.backbone, example, ROWS, call)
                if isinstance(outcome, str):
                    counter.count = 0
                    outcome = answers(components.backbone, example, ROWS, call)
    if isinstance(outcome, str):
        raise MuxwrapError(f"a dry run of {ROWS} rows fails: {outcome}")
    mixtures = -(-ROWS // components.n)
    return FirstRun(counter.count, tuple(of_mixtures(components.backbone, example, mixtures, kept)))
