"""Random models are wrapped and held to the laws of a wrapper: all of them hold, or a refusal tells the way out."""

from __future__ import annotations

import pytest

from benchmarks.fuzz.judge import judge
from benchmarks.fuzz.plan import draw
from benchmarks.fuzz.source import code_of


@pytest.mark.parametrize("seed", range(30))
def test_laws_hold_or_a_refusal_tells_the_way_out(seed: int) -> None:
    plan = draw(seed)
    for n in (1, 2, 3):
        outcome = judge(plan, n)
        assert outcome.kind in ("held", "refused"), f"n={n}: {outcome}\n{plan}\n{code_of(plan)}"
