"""Runs of a backbone on few rows, bare and mixed, each of them made once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.examples import ROWS, Example, with_rows
from muxwrap._util.meta import on_meta, reads_values, values_needed
from muxwrap._util.nested import first_tensor, replace_object, tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.sites.runs.dry_run import answers, answers_in, answers_of, mixed_answers, padded, watched
from muxwrap.sites.runs.rows import another_beside
from muxwrap.sites.runs.scores import is_whole
from muxwrap.sites.tracing.operations import OperationCounter
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.trace import Trace

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

    def __init__(self, backbone: nn.Module, example: Example) -> None:
        self.backbone = backbone
        example = _one_choice(example)
        self._given = example
        self.example: Example = with_rows(with_rows(example, 1))
        self.has_other = not on_meta(backbone)
        """Whether the bare answers are those of the trace, where another row stands beside the copy."""
        self.has_pair = self.has_other
        """Whether the backbone reads two rows that differ, which mixed runs are made of."""
        self.pair = another_beside(example) if self.has_other else self.call(False, BARE_ROWS)
        self.candidates: Sequence[Site] = ()
        """Demux sites that may be tried: what passes there in a run that fails rules some of them out."""
        self.passed: dict[Site, Tensor] = {}
        """What passed there in the last mixed run: the last row."""
        self._bare: dict[tuple[bool, int], Answers] = {}
        self._bare_passed: dict[bool, dict[Site, Tensor]] = {}
        self._mixed: dict[Any, tuple[Answers, dict[Site, Tensor]]] = {}
        self._operations: dict[Sites, tuple[int, float]] = {}

    @cached_property
    def trace(self) -> Trace:
        """A bare run of two rows."""
        try:
            seen = trace(self.backbone, self.pair)
        except MuxwrapError:  # it may be the other row that the model cannot read
            seen = trace(self.backbone, self.call(False, BARE_ROWS))
            self.has_other = self.has_pair = False
        return seen

    @cached_property
    def trace_of_more(self) -> Trace:
        """A bare run of three rows, in which what belongs to rows is longer than in :attr:`trace`, and nothing else is."""
        return trace(self.backbone, self.call(False, ROWS))

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
                self._of_trace()
                if (padding, rows) == (False, BARE_ROWS)
                else answers(self.backbone, self.call(padding, rows), rows, scores=self.scored)
            )
        return self._bare[padding, rows]

    def _of_trace(self) -> Answers:
        if not self.scored:
            return answers_in(self.trace.output, BARE_ROWS)
        call = self.pair if self.has_pair else self.call(False, BARE_ROWS)
        return answers(self.backbone, call, BARE_ROWS, scores=True)

    @cached_property
    def scored(self) -> bool:
        """Whether some answers are whole numbers: their scores are looked at, too, and NaN does not show in them."""
        return any(is_whole(answer) for _, answer in answers_of(self.trace.output))

    def bare_passed(self, padding: bool) -> dict[Site, Tensor]:
        """Return what passes at the candidates in a bare run of copies: the last row."""
        if padding not in self._bare_passed:
            with watched(self.backbone, self.candidates) as found:
                self._bare[padding, BARE_ROWS] = answers(
                    self.backbone, self.call(padding, BARE_ROWS), BARE_ROWS, scores=self.scored
                )
            self._bare_passed[padding] = found
            self.has_other = self.has_other and padding
        return self._bare_passed[padding]

    def take_copies(self) -> tuple[Answers, Answers]:
        """Take copies for the other row of the bare run from now on; return the answers before and after."""
        before = self.bare(False, BARE_ROWS)
        self.bare_passed(False)
        return before, self.bare(False, BARE_ROWS)

    @cached_property
    def several(self) -> bool:
        """Whether a row is more than one tensor, of which some may be read for another row than that with which it came."""
        return self.has_pair and len(self.pair.tensors_with_rows()) > 1

    def _twice(self) -> Example:
        """Return the call of the trace with each of its rows twice: the two of a mixture are alike, and mixtures are not."""
        return another_beside(self._given).map_rows(lambda value: value.repeat_interleave(2, 0))

    @cached_property
    def bare_twice(self) -> Answers:
        """What the bare model answers to it."""
        return answers(self.backbone, self._twice(), PADDED_ROWS, scores=self.scored)

    # -- mixed --------------------------------------------------------------------------------------------------------

    def is_known(self, sites: Sites, padding: bool, prefix: int = 0, probe: bool = False) -> bool:
        """Whether a mixed run was made before."""
        return (sites, padding, prefix, probe, False) in self._mixed

    def mixed(self, sites: Sites, padding: bool, prefix: int = 0, probe: bool = False, twice: bool = False) -> Answers:
        """Return the answers of a run that mixes; see :func:`~muxwrap.sites.runs.dry_run.mixed_answers`.

        With ``twice``, mixtures differ.
        """
        key = (sites, padding, prefix, probe, twice)
        if key not in self._mixed:
            rows = PADDED_ROWS if padding or twice else ROWS
            call = self._twice() if twice else self.call(padding, rows)
            whole = replace(sites.demux[0], first_token=False)
            counter = OperationCounter() if self.trace.operations and not (padding or twice) else None
            with watched(self.backbone, dict.fromkeys((*self.candidates, whole))) as passed, counter or nullcontext():
                outcome = mixed_answers(self.backbone, sites, call, rows, prefix, probe, self.scored)
            self._mixed[key] = outcome, passed
            if counter is not None:
                self._operations[sites] = rows, counter.count
        outcome, self.passed = self._mixed[key]
        self._check_values(outcome)
        return outcome

    def saved(self, sites: Sites) -> float | None:
        """Return the share of the operations that a mixed run made once per mixture, or None where none was counted.

        The rows are two mixtures there, on which a trunk makes as many operations as the bare model on its two rows.
        """
        narrow = replace(sites, demux=(replace(sites.demux[0], first_token=True), *sites.demux[1:]))
        counted = self._operations.get(sites, self._operations.get(narrow))
        if counted is None:
            return None
        rows, operations = counted
        return (rows - BARE_ROWS * operations / self.trace.operations) / (rows - MIXTURES)

    def _check_values(self, outcome: Answers) -> None:
        """Refuse to go on where it is not known whether sites work: shapes alone do not tell, and another pair may be wrong.

        Raises:
            MuxwrapError: the backbone has no values, and was asked for some.
        """
        if on_meta(self.backbone) and isinstance(outcome, str) and reads_values(outcome):
            raise MuxwrapError(values_needed(self.backbone, outcome))


def _one_choice(example: Example) -> Example:
    """Make all sequences of a row the first one where a row has several to choose from: they share mixtures, too."""
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 3:
        return example
    one: Example = replace_object(example, ids, ids[:, :1].expand_as(ids).contiguous())
    return one
