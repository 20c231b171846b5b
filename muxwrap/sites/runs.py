"""Runs of a backbone on few rows, bare and mixed, each of them made once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.examples import ROWS, with_rows
from muxwrap._util.meta import on_meta, reads_values, values_needed
from muxwrap._util.nested import first_tensor, replace_object, tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.sites.dry_run import answers, answers_in, mixed_answers, padded, watched
from muxwrap.sites.operations import OperationCounter
from muxwrap.sites.rows import another_beside
from muxwrap.sites.trace import Trace, trace

BARE_ROWS = 2
PADDED_ROWS = 4  # two mixtures, the first of rows with padding
MIXTURES = 2  # of ROWS and of PADDED_ROWS

Answers = list[Tensor] | str  # or what went wrong


class Runs:
    """What a backbone gives for copies of an example's first row.

    The trace is the one run that has another row beside the copy, so that rows which depend on each other give answers there
    that they give nowhere else. Until :meth:`take_copies` its answers are also the bare ones.

    Args:
        backbone: left as it is after every run.
        example: a call of the backbone.
    """

    def __init__(self, backbone: nn.Module, example: Any) -> None:
        self.backbone = backbone
        example = _one_choice(example)
        self.example = with_rows(with_rows(example, 1))
        self.has_other = not on_meta(backbone)
        """Whether the bare answers are those of the trace, where another row stands beside the copy."""
        self.pair = another_beside(example) if self.has_other else self.call(False, BARE_ROWS)
        self.candidates: Sequence[Site] = ()
        """Demux sites that may be tried: what passes there in a run that fails rules some of them out."""
        self.passed: dict[Site, Tensor] = {}
        """What passed there in the last mixed run: the last row."""
        self._bare: dict[tuple[bool, int], Answers] = {}
        self._bare_passed: dict[bool, dict[Site, Tensor]] = {}
        self._mixed: dict[Any, tuple[Answers, dict[Site, Tensor]]] = {}
        self._operations: dict[Sites, float] = {}

    @cached_property
    def trace(self) -> Trace:
        """A bare run of two rows."""
        try:
            seen = trace(self.backbone, self.pair)
        except MuxwrapError:  # it may be the other row that the model cannot read
            seen = trace(self.backbone, self.call(False, BARE_ROWS))
            self.has_other = False
        return seen

    @cached_property
    def masked(self) -> bool:
        """Whether the backbone takes a mask for this example, bare."""
        has_ids = any(not tensor.is_floating_point() for tensor in tensors_in(self.example))
        first = first_tensor(self.example)
        is_sound = first is not None and first.ndim in (2, 3)  # which is masked, too, and an image is not
        if not (has_ids or is_sound) or not takes_mask(self.backbone):
            return False
        outcome = self.bare(True, BARE_ROWS)
        self._check_values(outcome)
        return not isinstance(outcome, str)

    def call(self, padding: bool, rows: int) -> Any:
        """Return a call of copies, with or without padding."""
        return padded(self.example, rows) if padding else with_rows(self.example, rows)

    # -- bare ---------------------------------------------------------------------------------------------------------

    def bare(self, padding: bool, rows: int) -> Answers:
        """Return the bare model's answers."""
        if (padding, rows) not in self._bare:
            self._bare[padding, rows] = (
                answers_in(self.trace.output, rows)
                if (padding, rows) == (False, BARE_ROWS)
                else answers(self.backbone, self.call(padding, rows), rows)
            )
        return self._bare[padding, rows]

    def bare_passed(self, padding: bool) -> dict[Site, Tensor]:
        """Return what passes at the candidates in a bare run of copies: the last row."""
        if padding not in self._bare_passed:
            with watched(self.backbone, self.candidates) as found:
                self._bare[padding, BARE_ROWS] = answers(self.backbone, self.call(padding, BARE_ROWS), BARE_ROWS)
            self._bare_passed[padding] = found
            self.has_other = self.has_other and padding
        return self._bare_passed[padding]

    def take_copies(self) -> tuple[Answers, Answers]:
        """Take copies for the other row of the bare run from now on; return the answers before and after."""
        before = self.bare(False, BARE_ROWS)
        self.bare_passed(False)
        return before, self.bare(False, BARE_ROWS)

    # -- mixed --------------------------------------------------------------------------------------------------------

    def is_known(self, sites: Sites, padding: bool, prefix: int = 0, probe: bool = False) -> bool:
        """Whether a mixed run was made before."""
        return (sites, padding, prefix, probe) in self._mixed

    def mixed(self, sites: Sites, padding: bool, prefix: int = 0, probe: bool = False) -> Answers:
        """Return the answers of a run that mixes; see :func:`~muxwrap.sites.dry_run.mixed_answers`."""
        key = (sites, padding, prefix, probe)
        if key not in self._mixed:
            rows = PADDED_ROWS if padding else ROWS
            whole = replace(sites.demux[0], first_token=False)
            counter = OperationCounter() if self.trace.operations and not padding else None
            with watched(self.backbone, dict.fromkeys((*self.candidates, whole))) as passed, counter or nullcontext():
                outcome = mixed_answers(self.backbone, sites, self.call(padding, rows), rows, prefix, probe)
            self._mixed[key] = outcome, passed
            if counter is not None:
                self._operations[sites] = counter.count
        outcome, self.passed = self._mixed[key]
        self._check_values(outcome)
        return outcome

    def saved(self, sites: Sites) -> float | None:
        """Return the share of the operations that a mixed run made once per mixture, or None where none was counted.

        Three rows are two mixtures there, so that the bare model's operations on two rows are those of a trunk alone, and half
        as many more those of a model that runs for every row.
        """
        narrow = replace(sites, demux=(replace(sites.demux[0], first_token=True), *sites.demux[1:]))
        counted = self._operations.get(sites, self._operations.get(narrow))
        return None if counted is None else 3 - 2 * counted / self.trace.operations

    def _check_values(self, outcome: Answers) -> None:
        """Refuse to go on where it is not known whether sites work: shapes alone do not tell, and another pair may be wrong.

        Raises:
            MuxwrapError: the backbone has no values, and was asked for some.
        """
        if on_meta(self.backbone) and isinstance(outcome, str) and reads_values(outcome):
            raise MuxwrapError(values_needed(self.backbone, outcome))


def _one_choice(example: Any) -> Any:
    """Make all sequences of a row the first one where a row has several to choose from: they share mixtures, too."""
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 3:
        return example
    return replace_object(
        example if isinstance(example, (dict, tuple)) else (example,), ids, ids[:, :1].expand_as(ids).contiguous()
    )
