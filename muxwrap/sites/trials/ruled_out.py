"""What one run shows of other candidates: a run that fails tells which others would fail in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from muxwrap.site import Site, Sites
from muxwrap.sites.runs.runs import Runs
from muxwrap.sites.trials.matching import Match, Matching


@dataclass(frozen=True)
class Verdict:
    """How the answers at sites compare with the bare model's, which copies of one input have to get when mixed.

    Args:
        match: see :meth:`~muxwrap.sites.trials.matching.Matching.match`.
        problem: what went wrong where no answers came back.
    """

    match: Match
    problem: str | None = None


class RuledOut:
    """The demux sites that need no run of their own.

    Args:
        runs: of the backbone.
        matching: of their answers.
    """

    def __init__(self, runs: Runs, matching: Matching) -> None:
        self.runs = runs
        self.matching = matching
        self._verdicts: dict[tuple[Any, Site], Verdict] = {}

    def verdict(self, sites: Sites) -> Verdict | None:
        """Return what is known of sites without a run, if anything is."""
        return self._verdicts.get((_trunk(sites), sites.demux[0]))

    def note(self, sites: Sites, padding: bool, verdict: Verdict) -> None:
        """Note which other demux sites would fail as well when mixed in the same way, after the run of sites that do.

        A site that the run did not reach would not be reached again, or lies after what was wrong already. One that was
        reached has wrong answers to come if what passed there is not what passes in the bare model.
        """
        passed = self.runs.passed
        until = list(passed).index(sites.demux[0]) + 1 if sites.demux[0] in passed else len(passed)
        right = {site: self._is_bare(site, passed[site], padding) for site in list(passed)[:until]}
        for site in self.runs.candidates:
            if not right.get(site, right.get(sites.demux[0], False)):
                self._verdicts[_trunk(sites), site] = verdict

    def _is_bare(self, site: Site, passed: Tensor, padding: bool) -> bool:
        if not padding:
            self.matching.settle()
        bare = self.runs.bare_passed(padding).get(site)
        return bare is not None and self.matching.close(bare, passed)


def _trunk(sites: Sites) -> Any:
    """Return what decides how a run goes until something is separated."""
    return sites.mux, sites.mask, sites.mask_at, sites.sides
