"""Trying sites on the backbone itself: what works is found out, not listed.

Runs are few and small: the trace of two rows gives the bare model's answer, a pair of calls shows whether sites are
exact, and a run that fails also tells which other sites would fail in the same way.
"""

from __future__ import annotations

from functools import cached_property

from torch import nn

from muxwrap._util.examples import ROWS, Example
from muxwrap.site import MaskMode, SideInput, Site, Sites
from muxwrap.sites.runs.dry_run import answers_of
from muxwrap.sites.runs.runs import BARE_ROWS, Answers, Runs
from muxwrap.sites.tracing.resolve import mixed_at
from muxwrap.sites.tracing.trace import Trace
from muxwrap.sites.tracing.weight import share_between
from muxwrap.sites.trials.auxiliary import without_early_heads
from muxwrap.sites.trials.first_token import (
    finite,
    ignores_others,
    may_narrow,
    narrow,
    reads_first_alone,
    with_other_ids,
)
from muxwrap.sites.trials.matching import Match, Matching
from muxwrap.sites.trials.ruled_out import RuledOut, Verdict
from muxwrap.sites.trials.sides import Sides


class Trial:
    """A backbone, three copies of an example's first row, and dry runs at sites: two by two, mixed by just a mean.

    Args:
        backbone: left as it is after every run.
        example: a call of the backbone.
        prefix: tokens that the demuxer will put before every mixture.
    """

    def __init__(self, backbone: nn.Module, example: Example, prefix: int = 0) -> None:
        self.backbone = backbone
        self.prefix = prefix
        self.ids_stood_in = False
        """Whether ids may be stood in for, where a backbone reads how many rows of them there are."""
        self.runs = Runs(backbone, example)
        self.matching = Matching(self.runs)
        self._others = RuledOut(self.runs, self.matching)
        self._padding_first = True
        self._passed_with_sides: dict[tuple[Site, ...], set[Site]] = {}

    @property
    def trace(self) -> Trace:
        """A bare run of two rows."""
        return self.runs.trace

    @cached_property
    def _sides(self) -> Sides:
        return Sides(self.backbone, self.trace, self.runs.example)

    @property
    def masked(self) -> bool:
        """Whether the backbone takes a mask for this example, bare."""
        return self.runs.masked

    @property
    def reproducible(self) -> bool:
        """Whether the bare model gives a row the same answer whatever else is in the batch."""
        return self.matching.reproducible

    # -- one pair of candidates ---------------------------------------------------------------------------------------

    def check(self, sites: Sites, known: bool = True) -> Verdict:
        """Compare the answers at sites with the bare model's, and stop at the first call that shows them to be wrong.

        Args:
            sites: to be tried.
            known: take what other runs have shown of the first demux site.

        Raises:
            MuxwrapError: the rows of the bare model depend on each other.
        """
        verdict = self._others.verdict(sites) if known else None
        problem = self._problem_with_prefix(sites) if verdict is None else verdict.problem
        if verdict is not None or problem is not None:
            return verdict or Verdict("wrong", problem)
        matches: list[Match] = []
        for padding in self._calls(sites):
            verdict = self._compare(sites, padding)
            if verdict.match == "wrong" and (verdict.problem is not None or self.reproducible):
                self._padding_first = padding
                if self.reproducible:
                    self._others.note(sites, padding, verdict)
                if sites.sides and verdict.problem is not None:
                    self._passed_with_sides[sites.mux] = set(self.runs.passed)
                return verdict
            matches.append(verdict.match)
        match: Match = next(match for match in ("wrong", "sound", "exact") if match in matches)
        if self.matching.noise_explains and not self._has_rows_first(sites):
            return Verdict("wrong", _NO_ROWS)
        if match == "exact" and self._confuses_rows(sites):
            return Verdict("wrong", _CONFUSED)
        return Verdict(match)

    def _has_rows_first(self, sites: Sites) -> bool:
        """Whether the first axis of what passes at sites grows with the rows; that of time steps that come first does not.

        Answers show it, but for models whose answers to one row differ from call to call: nor is there any telling whether the
        tokens of a row, folded into the first axis, are rows of their own.
        """
        passed = ((mixed_at(self.trace, s), mixed_at(self.runs.trace_of_more, s)) for s in (*sites.mux, *sites.demux))
        lengths = [(a.shape[0], b.shape[0]) for a, b in passed if a and b and a.ndim and b.ndim]
        return all((two, three) == (BARE_ROWS, ROWS) for two, three in lengths)

    def _confuses_rows(self, sites: Sites) -> bool:
        """Whether a mixture is given what came with other rows, which shows where mixtures differ."""
        if not self.runs.several or self.masked or self.prefix or not self.reproducible:
            return False
        return self.matching.match(self.runs.mixed(sites, False, twice=True), False, twice=True) == "wrong"

    def astray(self, sites: Sites) -> list[int]:
        """Return which of the tensors that are returned are wrong at sites that were run, if others are right."""
        if not self.runs.is_known(sites, False):
            return []
        places = [place for place, _ in answers_of(self.trace.output)]
        astray = self.matching.astray(self.runs.mixed(sites, False))
        return [places[at] for at in astray if at < len(places)]  # behind them are scores of whole numbers

    def share(self, sites: Sites) -> float | None:
        """Return the share of the operations that run once per mixture, or None where it is not known.

        It is what lies between the sites, less what was seen there to run for every row besides: other inputs that pass the
        same layers, a second branch.
        """
        between, saved = share_between(self.trace, sites.mux, sites.demux), self.runs.saved(sites)
        return between if between is None or saved is None or saved > between - 0.1 else max(0.0, saved)

    def sides_between(
        self, mux: tuple[Site, ...], demux: tuple[Site, ...], whole: bool = False
    ) -> tuple[SideInput, ...]:
        """Return what modules between sites are given of the rows besides.

        Not asked where it does not help: mixing there failed with it, before the demux site was reached.
        """
        passed = None if whole else self._passed_with_sides.get(mux)
        if self.masked or (passed is not None and demux[0] not in passed):
            return ()
        return self._sides.between(mux, demux, whole)

    def narrowed(self, sites: Sites, by_place: bool) -> Sites:
        """Leave out heads that read no mixtures, and separate the first token only, where nothing after it reads any other.

        Args:
            sites: that were found.
            by_place: whether it is known that no head reads the token that the ids tell.
        """
        sites = without_early_heads(self.runs, sites)
        ignored = (ignores_others(self.runs, self.matching, sites, each) for each in self._calls(sites))
        if not may_narrow(self.runs, sites) or not all(ignored):
            return sites
        first = narrow(sites)
        works = not isinstance(self.runs.mixed(first, False), str) and self._problem_with_prefix(first) is None
        alone = works and self._first_alone_in_training(sites.demux[0])
        return first if alone and (by_place or self._first_alone_elsewhere(sites.demux[0])) else sites

    def _first_alone_elsewhere(self, site: Site) -> bool:
        """Whether the head reads the first token for its place, and not for what the ids are."""
        calls = with_other_ids(self.runs.call(False, BARE_ROWS))
        return all(reads_first_alone(self.backbone, site, call, BARE_ROWS) for call in calls)

    def _first_alone_in_training(self, site: Site) -> bool:
        """Whether no head that runs in training only reads other tokens: two rows, for the sake of batch norms."""
        call = self.runs.call(False, BARE_ROWS)
        return reads_first_alone(self.backbone, site, call, BARE_ROWS, training=True)

    def _calls(self, sites: Sites) -> tuple[bool, ...]:
        """Return with which of the calls, without and with padding, to begin: that which fails most likely.

        It is that which failed last; where the model is always given a mask, that without one.
        """
        if not sites.masked:
            return (False,)
        first = self._padding_first and sites.mask is not MaskMode.ALWAYS
        return (first, not first)

    def _compare(self, sites: Sites, padding: bool) -> Verdict:
        """Compare one call; where the head may read the first token only, in a run that shows whether it does."""
        runs = self.runs
        if may_narrow(runs, sites):
            known = not padding and ignores_others(runs, self.matching, sites, True, known_only=True)
            tried = runs.mixed(narrow(sites), padding) if known else runs.mixed(sites, padding, probe=True)
            if (known or finite(tried)) and self.matching.match(tried, padding) == "exact":
                return Verdict("exact")
            if isinstance(tried, str) and sites.demux[0] not in runs.passed:
                return Verdict("wrong", tried)  # before anything was separated
        outcome = runs.mixed(sites, padding)
        match = self.matching.match(outcome, padding)
        if match == "wrong" and not isinstance(outcome, str) and not self.matching.fits(outcome, padding):
            return Verdict(match, "some answers have a row per mixture")
        return Verdict(match, _problem(outcome))

    def _problem_with_prefix(self, sites: Sites) -> str | None:
        if not self.prefix:
            return None
        for padding in self._calls(sites):
            outcome = self.runs.mixed(sites, padding, self.prefix)
            if isinstance(outcome, str):
                return outcome
            if not self.matching.fits(outcome, padding):
                return _NO_PREFIX
        return None


_NO_PREFIX = "the prefix is not passed on to what is separated"
_NO_ROWS = "the first axis of what passes there is not that of rows"
_CONFUSED = "a mixture is read together with what came with other rows (by its place in the batch, for example)"


def _problem(outcome: Answers) -> str | None:
    return outcome if isinstance(outcome, str) else None
