"""The laws of the fuzz find what is wrong: each is broken on purpose."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

import muxwrap
from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz.judge import Outcome, judge, smallest
from benchmarks.fuzz.model import Model, seeded
from benchmarks.fuzz.parts import BLOCKS, HEADS, POOLS, RARE, SEPARATED_AT, SOURCES
from benchmarks.fuzz.plan import ANSWERS, CALLS, EXTRAS, Plan, draw, smaller
from benchmarks.fuzz.source import code_of
from muxwrap import Multiplex, MuxwrapError
from muxwrap._hooks import separating

PLAN = Plan("vector", "linear", ("linear", "residual"), "none", "linear")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_plain_network_keeps_all_laws(n: int) -> None:
    assert judge(PLAN, n).kind == "held"


def changed(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(function(*args, **kwargs))


BROKEN: list[tuple[Any, str, Callable[[Any], Any], str]] = [
    (separating, "ungroup", lambda x: x.flip(0), "a row's answer is that of its mixture alone"),
    (separating, "ungroup", lambda x: x[[1, 0, *range(2, len(x))]] if len(x) > 1 else x, "an index is a row's place"),
    (separating, "ungroup", lambda x: x[:-1] if len(x) > 6 else x, "7 rows"),
    (separating, "ungroup", lambda x: x.detach(), "every parameter gets a gradient"),
    (separating, "ungroup", lambda x: 0 * x + 1, "a row's answer moves with its input"),
    (separating, "ungroup", lambda x: x / 0, "is not finite"),
    (Multiplex, "detach", lambda net: setattr(net, "left", 1) or net, "unwrap restores the model: the model: left"),
    (Multiplex, "detach", lambda net: net.register_forward_hook(print) and net, "unwrap restores the model"),
]


@pytest.mark.parametrize(("where", "name", "change", "law"), BROKEN)
def test_a_broken_law_is_found(
    where: Any, name: str, change: Callable[[Any], Any], law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap = muxwrap.wrap

    def broken(*args: Any, **kwargs: Any) -> Multiplex:
        wrapped = wrap(*args, **kwargs)  # the search itself is not to notice
        monkeypatch.setattr(where, name, changed(getattr(where, name), change))
        return wrapped

    monkeypatch.setattr(muxwrap, "wrap", broken)
    outcome = judge(PLAN, 2)
    assert outcome.kind == "fault"
    assert law in outcome.message


def test_other_answers_at_n_1_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = muxwrap.wrap

    def broken(*args: Any, **kwargs: Any) -> Multiplex:
        wrapped = wrap(*args, **kwargs)
        monkeypatch.setattr(separating, "ungroup", changed(separating.ungroup, lambda x: x + 1e-5))
        return wrapped

    monkeypatch.setattr(muxwrap, "wrap", broken)
    assert "n=1 is the bare model" in judge(PLAN, 1).law


@pytest.mark.parametrize(
    ("error", "law"),
    [
        (MuxwrapError("wrap(Net, n=2, strategy=None, demux=None): no"), "a refusal tells the way out"),
        (KeyError("x"), "wrap raises KeyError"),
    ],
)
def test_what_else_wrap_may_raise_is_a_fault(error: Exception, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(muxwrap, "wrap", fail)
    assert judge(PLAN, 2).law == law


def test_a_split_that_saves_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = muxwrap.wrap
    sites = {"mux_at": "head@input", "demux_at": "head@output"}

    monkeypatch.setattr(muxwrap, "wrap", lambda net, *args, **kwargs: wrap(net, *args, **kwargs, **sites))
    held = judge(PLAN, 2)
    assert held.kind == "held"
    assert held.share is not None and 0.05 < held.share < 0.2
    sites |= {"mux_at": "stem@output", "demux_at": "part0@input"}
    assert judge(PLAN, 2).law == "the split is worth something"


def test_a_plan_is_made_smaller_until_nothing_can_go() -> None:
    plan = Plan(
        "sequence", "lstm", ("linear", "attention", "lstm"), "last", "two", "nested", "dict", ("flag", "labels")
    )

    def fault_of_attention(plan: Plan, _n: int) -> Outcome:
        return Outcome("fault", "a law") if "attention" in plan.blocks and "flag" in plan.extras else Outcome("held")

    assert smallest(plan, 2, "a law", fault_of_attention) == Plan(
        "sequence", "linear", ("attention",), "mean", "linear", extras=("flag",)
    )


@pytest.mark.parametrize("seed", range(20))
def test_plans_come_from_their_seed_and_are_python(seed: int) -> None:
    plan = draw(seed)
    assert plan == draw(seed)
    for each in (plan, *smaller(plan)):
        compile(code_of(each), "code", "exec")


def every_part() -> list[Plan]:
    plans = []
    for source, (_, stems) in SOURCES.items():
        for stem, (kind, *_) in stems.items():
            plans.append(Plan(source, stem, ("buffer",), next(iter(POOLS[kind])), "linear"))
    by_kind = {plan.kind: plan for plan in plans}
    for kind, plan in by_kind.items():
        names = [*BLOCKS[kind], *RARE.get(kind, {})]
        plans += [Plan(plan.source, plan.stem, (name, "again"), plan.pool, "linear") for name in names]
        plans += [Plan(plan.source, plan.stem, ("buffer",), pool, "linear") for pool in POOLS[kind]]
    plans += [Plan("tokens", "embedding", ("attention",), "mean", head, extras=("padding",)) for head in HEADS]
    plans += [Plan("two ids", "sum", ("linear",), "none", "two", call, answer) for call in CALLS for answer in ANSWERS]
    plans += [Plan("tokens", "embedding", ("attention",), "mean", "linear", extras=(extra,)) for extra in EXTRAS]
    return plans


def test_every_part_runs_bare() -> None:
    unfit = []
    for plan in every_part():
        try:
            model = Model(plan)
            seeded(model.net(), *model.call(model.batch(2)))
        except Exception as error:
            unfit.append((plan, error))
    assert not unfit


def test_sites_that_are_named_are_modules() -> None:
    plans = [
        replace(plan, named=True) for plan in every_part() if plan.head in SEPARATED_AT and plan.stem != "functional"
    ]
    for plan in plans:
        paths = {path for path, _ in Model(plan).net().named_modules()}
        assert paths.issuperset(plan.sites["mux_at"] + plan.sites["demux_at"])


def dies(_plan: Plan, _n: int) -> Outcome:
    os.abort()


def test_a_crash_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "judge", dies)
    assert command.Judge()(PLAN, 2) == Outcome("fault", "the process survives", ANY)


def test_the_long_run_writes_what_it_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {1: Outcome("held"), 2: Outcome("refused", "wrap", "give more"), 3: Outcome("fault", "a law", "broken")}
    monkeypatch.setattr(command.Judge, "__call__", lambda _judge, _plan, n: outcomes[n])
    assert command.main(["--models", "5", "--seed", "7", "--out", str(tmp_path / "found.json")]) == 1
    records = json.loads((tmp_path / "found.json").read_text())["records"]
    assert {record["name"]: record.get("count") for record in records[:3]} == {
        "fault a law": 5,
        "held": 5,
        "refused wrap": 5,
    }
    faults = [record for record in records if record.get("kind") == "fault"]
    assert [record["plan"]["seed"] for record in faults] == [7, 8, 9, 10, 11]
    assert "class Net(nn.Module)" in faults[0]["code"]
    assert "code" not in faults[4]
