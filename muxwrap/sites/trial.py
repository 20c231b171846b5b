"""Trying sites on the backbone itself: what works is found out, not listed.

Runs are few and small: the trace of two equal rows is also the bare model's answer, a pair of calls shows whether sites are
exact, and a run that fails also tells which other sites would fail in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.examples import ROWS, with_rows
from muxwrap._util.meta import is_meta, on_meta, reads_values, values_needed
from muxwrap._util.nested import first_tensor, replace_object, tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.sites import dry_run
from muxwrap.sites.dry_run import answers, mixed_answers, padded, unmasked, watched
from muxwrap.sites.rounding import Rounding, distance
from muxwrap.sites.trace import Trace, trace

Match = Literal["exact", "sound", "wrong"]

PADDED_ROWS = 4  # two mixtures, the first of rows with padding
_BARE_ROWS = 2


@dataclass(frozen=True)
class Verdict:
    """How the answers at sites compare with the bare model's, which copies of one input have to get when mixed.

    Args:
        match: ``"sound"`` if only rows with padding differ (from a convolution that reads it, for example).
        problem: what went wrong where no answers came back.
    """

    match: Match
    problem: str | None = None


class Trial:
    """A backbone, three copies of an example's first row, and dry runs at sites: two by two, mixed by just a mean.

    Args:
        backbone: left as it is after every run.
        example: a call of the backbone.
        prefix: tokens that the demuxer will put before every mixture.
    """

    def __init__(self, backbone: nn.Module, example: Any, prefix: int = 0) -> None:
        self.backbone = backbone
        self.example = with_rows(with_rows(_one_choice(example), 1))
        self.prefix = prefix
        self.candidates: Sequence[Site] = ()
        """Demux sites that may be tried: what passes there in a run that fails rules some of them out."""
        self._bare: dict[tuple[bool, int], list[Tensor] | str] = {}
        self._mixed: dict[Any, tuple[list[Tensor] | str, dict[Site, Tensor]]] = {}
        self._bare_passed: dict[bool, dict[Site, Tensor]] = {}
        self._ruled_out: dict[tuple[Any, Site], Verdict] = {}
        self._passed: dict[Site, Tensor] = {}  # in the last run
        self._padding_first = True
        self._rounding = Rounding()

    @cached_property
    def trace(self) -> Trace:
        """A bare run of two rows."""
        return trace(self.backbone, with_rows(self.example, _BARE_ROWS))

    @cached_property
    def masked(self) -> bool:
        """Whether the backbone takes a mask for this example, bare."""
        has_ids = any(not tensor.is_floating_point() for tensor in tensors_in(self.example))
        first = first_tensor(self.example)
        of_positions = has_ids or (
            first is not None and first.ndim in (2, 3)
        )  # a sound is masked, too, an image is not
        if not of_positions or not takes_mask(self.backbone):
            return False
        outcome = self._bare_answers(True, _BARE_ROWS)
        self._check_values(outcome)
        return not isinstance(outcome, str)

    def _check_values(self, outcome: object) -> None:
        """Refuse to go on where it is not known whether sites work: shapes alone do not tell, and another pair may be wrong.

        Raises:
            MuxwrapError: the backbone has no values, and was asked for some.
        """
        if on_meta(self.backbone) and isinstance(outcome, str) and reads_values(outcome):
            raise MuxwrapError(values_needed(self.backbone, outcome))

    @property
    def reproducible(self) -> bool:
        """Whether the bare model gives a row the same answer whatever else is in the batch."""
        return self._noise < 0.01

    # -- one pair of candidates ---------------------------------------------------------------------------------------

    def check(self, sites: Sites) -> Verdict:
        """Compare the answers at sites with the bare model's, and stop at the first call that shows them to be wrong."""
        known = self._ruled_out.get((_trunk(sites), sites.demux[0]))
        problem = self._problem_with_prefix(sites) if known is None else known.problem
        if known is not None or problem is not None:
            return known or Verdict("wrong", problem)
        matches: list[Match] = []
        for padding in self._calls(sites):
            verdict = self._compare(sites, padding)
            if verdict.match == "wrong" and (verdict.problem is not None or self.reproducible):
                self._padding_first = padding
                self._rule_out(sites, padding, verdict)
                return verdict
            matches.append(verdict.match)
        return Verdict(next(match for match in ("wrong", "sound", "exact") if match in matches))

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
        if self._may_narrow(sites):
            narrow = not padding and self._ignores_others(sites, True, known_only=True)
            tried = self._run(_narrow(sites), padding) if narrow else self._run(sites, padding, probe=True)
            if self._match(tried, padding) == "exact" and (narrow or _finite(tried)):
                return Verdict("exact")
            if isinstance(tried, str) and sites.demux[0] not in self._passed:
                return Verdict("wrong", tried)  # before anything was separated
        outcome = self._run(sites, padding)
        return Verdict(self._match(outcome, padding), outcome if isinstance(outcome, str) else None)

    def _match(self, mixed: list[Tensor] | str, padding: bool) -> Match:
        own = self._own(padding, mixed)
        if isinstance(own, str) or isinstance(mixed, str) or len(own) != len(mixed):
            return "wrong"
        pairs = [(self._read(a), self._read(b)) for a, b in zip(own, mixed, strict=True)]
        if all(self._close(a, b) for a, b in pairs):
            return "exact"
        half = PADDED_ROWS // 2 if padding else 0
        return "sound" if padding and all(self._close(a[half:], b[half:]) for a, b in pairs) else "wrong"

    def _own(self, padding: bool, mixed: list[Tensor] | str) -> list[Tensor] | str:
        """Return the bare model's answers to the rows of a mixed call, from two rows if possible."""
        own = self._bare_answers(padding, _BARE_ROWS)
        if isinstance(own, str) or isinstance(mixed, str):
            return own
        copies = torch.tensor([0, 0, 1, 1] if padding else [0, 0, 0])
        if any(answer.ndim == 0 for answer in own):  # a loss, which may be a sum over rows
            return self._bare_answers(padding, len(copies))
        own = [a[copies.to(a.device)] if a.shape[:1] == (_BARE_ROWS,) else a for a in own]
        if [a.shape for a in own] == [b.shape for b in mixed]:
            return own
        return self._bare_answers(padding, len(copies))  # what has its rows elsewhere, or happens to have two

    def _read(self, answer: Tensor) -> Tensor:
        """Return an answer without that at the padding, which nobody reads."""
        tokens = first_tensor(self.example)
        if (
            tokens is None
            or tokens.ndim < 2
            or answer.ndim < 2
            or answer.shape[1] != tokens.shape[1]
            or is_meta(answer)
        ):
            return answer
        return answer[:, unmasked(answer.shape[1], answer.device)]

    # -- the first token only -----------------------------------------------------------------------------------------

    def narrowed(self, sites: Sites) -> Sites:
        """Separate the first token only, where nothing after the site reads any other."""
        if not self._may_narrow(sites) or not all(self._ignores_others(sites, each) for each in self._calls(sites)):
            return sites
        narrow = _narrow(sites)
        works = not isinstance(self._run(narrow, False), str) and self._problem_with_prefix(narrow) is None
        return narrow if works else sites

    def _may_narrow(self, sites: Sites) -> bool:
        """Whether there are other tokens at the site, and no answer to each of them."""
        (first, *others), bare = sites.demux, self._bare_answers(False, _BARE_ROWS)
        if others or first.axis != -1 or first.first_token or isinstance(bare, str) or any(map(is_meta, bare)):
            return False
        if first.shape is None:
            return True
        return len(first.shape) > 1 and not any(a.ndim > 2 and a.shape[1] == first.shape[0] for a in bare)

    def _ignores_others(self, sites: Sites, padding: bool, known_only: bool = False) -> bool:
        """Whether NaN in all tokens but the first stays out of the answers, which weights of zero cannot hide.

        Args:
            sites: where every token is separated.
            padding: which call.
            known_only: run nothing for it.
        """
        if known_only and (sites, padding, 0, True) not in self._mixed:
            return False
        narrow = (_narrow(sites), padding, 0, False)
        if narrow in self._mixed and self._match(self._mixed[narrow][0], padding) == "exact":
            return True
        return _finite(self._run(sites, padding, probe=True))

    # -- what one run shows of other candidates -----------------------------------------------------------------------

    def _rule_out(self, sites: Sites, padding: bool, verdict: Verdict) -> None:
        """Note which other demux sites would fail as well when mixed in the same way.

        A site that the run did not reach would not be reached again, or lies after what was wrong already. One that was
        reached has wrong answers to come if what passed there is not what passes in the bare model.
        """
        if not self.reproducible:
            return
        passed = self._passed
        until = list(passed).index(sites.demux[0]) + 1 if sites.demux[0] in passed else len(passed)
        right = {site: self._is_bare(site, passed[site], padding) for site in list(passed)[:until]}
        for site in self.candidates:
            if not right.get(site, right.get(sites.demux[0], False)):
                self._ruled_out[_trunk(sites), site] = verdict

    def _is_bare(self, site: Site, passed: Tensor, padding: bool) -> bool:
        if padding not in self._bare_passed:
            with watched(self.backbone, self.candidates) as found:
                answers(self.backbone, self._call(padding, _BARE_ROWS), _BARE_ROWS)
            self._bare_passed[padding] = found
        bare = self._bare_passed[padding].get(site)
        return bare is not None and self._close(bare, passed)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _problem_with_prefix(self, sites: Sites) -> str | None:
        if not self.prefix:
            return None
        runs = (self._run(sites, padding, self.prefix) for padding in self._calls(sites))
        return next((outcome for outcome in runs if isinstance(outcome, str)), None)

    def _run(self, sites: Sites, padding: bool, prefix: int = 0, probe: bool = False) -> list[Tensor] | str:
        key = (sites, padding, prefix, probe)
        if key not in self._mixed:
            rows = PADDED_ROWS if padding else ROWS
            whole = replace(sites.demux[0], first_token=False)
            with watched(self.backbone, dict.fromkeys((*self.candidates, whole))) as passed:
                outcome = mixed_answers(self.backbone, sites, self._call(padding, rows), rows, prefix, probe)
            self._mixed[key] = outcome, passed
        outcome, self._passed = self._mixed[key]
        self._check_values(outcome)
        return outcome

    def _bare_answers(self, padding: bool, rows: int) -> list[Tensor] | str:
        if (padding, rows) not in self._bare:
            self._bare[padding, rows] = (
                dry_run.answers_in(self.trace.output, rows)
                if (padding, rows) == (False, _BARE_ROWS)
                else answers(self.backbone, self._call(padding, rows), rows)
            )
        return self._bare[padding, rows]

    def _call(self, padding: bool, rows: int) -> Any:
        return padded(self.example, rows) if padding else with_rows(self.example, rows)

    # -- rounding -----------------------------------------------------------------------------------------------------

    def _close(self, own: Tensor, mixed: Tensor) -> bool:
        """Whether answers are equal but for rounding."""
        apart = distance(own, mixed)
        return apart <= 1e-5 or apart <= 50 * self._noise or (apart <= 0.02 and self._rounding.coarse(own))

    @cached_property
    def _noise(self) -> float:
        """How far the bare model's answers to the same row are apart in batches of two sizes, relative to the largest."""
        three, two = self._bare_answers(False, ROWS), self._bare_answers(False, _BARE_ROWS)
        if isinstance(three, str) or isinstance(two, str):
            return 0.0
        pairs = zip(three, two, strict=True)
        return max((distance(a[:_BARE_ROWS], b) for a, b in pairs if a.shape[:1] == (ROWS,)), default=0.0)


def _trunk(sites: Sites) -> Any:
    """Return what decides how a run goes until something is separated."""
    return sites.mux, sites.mask, sites.mask_at, sites.sides


def _narrow(sites: Sites) -> Sites:
    return replace(sites, demux=(replace(sites.demux[0], first_token=True),))


def _finite(outcome: list[Tensor] | str) -> bool:
    return not isinstance(outcome, str) and all(not is_meta(a) and bool(torch.isfinite(a).all()) for a in outcome)


def _one_choice(example: Any) -> Any:
    """Make all sequences of a row the first one where a row has several to choose from: they share mixtures, too."""
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 3:
        return example
    return replace_object(
        example if isinstance(example, (dict, tuple)) else (example,), ids, ids[:, :1].expand_as(ids).contiguous()
    )
