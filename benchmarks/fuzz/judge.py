"""One model wrapped: the laws hold, it is refused, or there is a fault; and the smallest model with the same fault."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import muxwrap
from benchmarks.fuzz import laws
from benchmarks.fuzz.facts import Facts
from benchmarks.fuzz.plan import Plan, smaller
from muxwrap import MuxwrapError


@dataclass(frozen=True)
class Outcome:
    """What became of a plan at one n.

    Args:
        kind: ``"held"``, ``"refused"``, ``"fault"``, or ``"unfit"`` where the bare model does not run.
        law: which law does not hold, or what raised.
        message: the refusal, or what was seen.
        sites: where instances were mixed and separated.
        share: of the bare model's multiplications, between the sites.
    """

    kind: Literal["held", "refused", "fault", "unfit"]
    law: str = ""
    message: str = ""
    sites: str = ""
    share: float | None = None


def judge(plan: Plan, n: int) -> Outcome:
    """Wrap a plan's model and hold it to every law."""
    try:
        facts = Facts(plan)
    except Exception as error:
        return Outcome("unfit", type(error).__name__, str(error))
    before = laws.snapshot(facts.net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _judged(plan, n, facts, before)
        except laws.FaultError as fault:
            return Outcome("fault", fault.law, str(fault))


def _judged(plan: Plan, n: int, facts: Facts, before: Any) -> Outcome:
    strategy = "identity" if n == 1 else plan.strategy
    step = "wrap"
    try:
        example = facts.model.example(plan.example_rows)
        wrapped = muxwrap.wrap(facts.net, n, strategy, example_input=example, **plan.sites)
        if not facts.rows_apart and n > 1:
            raise laws.FaultError("rows that depend on each other are refused", f"wrapped at {wrapped.sites.mux}")
        step = "call"
        share = _check(wrapped, facts, before)
    except MuxwrapError as error:
        if step == "wrap":
            laws.check_refusal(error, facts, before)
        else:
            _check_told(error)
            laws.check_unwrapped(wrapped, facts, before)
        return Outcome("refused", step, str(error))
    except laws.FaultError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome("fault", f"{step} raises {type(error).__name__}", f"{error} ({where.name})")
    sites = "; ".join(map(str, (*wrapped.sites.mux, *wrapped.sites.demux)))
    return Outcome("held", sites=sites, share=share)


def _check(wrapped: muxwrap.Multiplex, facts: Facts, before: Any) -> float | None:
    share = None
    _check_every_batch(wrapped, facts)
    if wrapped.n > 1:
        share = laws.check_trunk(wrapped, facts)
        laws.check_order(wrapped, facts)
        laws.check_index(wrapped, facts)
    laws.check_training(wrapped, facts)
    laws.check_unwrapped(wrapped, facts, before)
    return share


def _check_every_batch(wrapped: muxwrap.Multiplex, facts: Facts) -> None:
    check = laws.check_bare if wrapped.n == 1 else laws.check_shapes
    for rows in facts.answers:
        try:
            check(wrapped, facts, rows)
        except MuxwrapError as error:  # a batch that makes one mixture, which squeeze() takes for no batch
            _check_told(error)
            if rows > wrapped.n:
                raise


def _check_told(error: MuxwrapError) -> None:
    if not laws.WAY_OUT.search(str(error)):
        raise laws.FaultError("a refusal tells the way out", error) from error


def smallest(plan: Plan, n: int, law: str, judged: Callable[[Plan, int], Outcome] = judge) -> Plan:
    """Return a plan with the same fault of which no part can be taken away."""
    for other in smaller(plan):
        found = judged(other, n)
        if found.kind == "fault" and found.law == law:
            return smallest(other, n, law, judged)
    return plan
