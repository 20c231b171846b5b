"""The chart: what is in it, what is kept, and what it says. No speed is asserted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from helpers import assert_same_state, random_state_untouched
from nets import make
from texts import sentences, tiny
from torch import nn

import muxwrap
from muxwrap.frontiers import Frontier, Point, Skipped, Variant, list_rivals, register_rival
from muxwrap.frontiers.plot import draw
from muxwrap.frontiers.registry import _RIVALS
from muxwrap.frontiers.sentence import sentence
from muxwrap.training import distill

matplotlib.use("Agg")
QUICK: dict[str, Any] = {
    "steps": 2,
    "dtype": "float32",
    "timing": {"mixtures": (1,), "rounds": 1, "seconds": 0.0},
    "progress": False,
}


def rows(model: nn.Module, lengths: tuple[int, ...] = (12, 9, 9, 5, 12, 9), seed: int = 0) -> dict[str, Any]:
    """A batch with the model's own answers as labels."""
    batch = sentences(lengths, padding=0, seed=seed)
    with torch.no_grad():
        return {**batch, "labels": model(**batch).logits.argmax(-1)}


def bert() -> nn.Module:
    return tiny("sequence", "bert", num_hidden_layers=3)


class Never:
    """Batches that must not be read."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fail, None)

    def _fail(self) -> Any:
        raise AssertionError("trained again")


@pytest.fixture(scope="module", autouse=True)
def no_trials() -> Iterator[None]:
    """Each batch size is tried for no longer than a few calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("muxwrap.throughput.timing.TRIAL", 0.0)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chart")


@pytest.fixture(scope="module")
def found(folder: Path) -> Frontier:
    model = bert()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with random_state_untouched():
        made = chart(model, [rows(model)] * 2, folder)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return made


def chart(model: nn.Module, train: Any, folder: Path, **options: Any) -> Frontier:
    options = {**QUICK, "n": 2, "at": 1, "layers": (3, 2), "folder": folder, **options}
    return muxwrap.frontier(model, train, [rows(model, seed=1)], **options)


def test_rivals_stand_beside_multiplexed_models(found: Frontier) -> None:
    plain = {
        "as it is": "as it is",
        "class token alone in the last layer": "class token",
        "2 layers": "layers",
        "50% of the inner features": "narrower",
        "25% of the inner features": "narrower",
        "text cut after 7 tokens": "shorter",  # of the median length, 9
        "text cut after 4 tokens": "shorter",
        "pool after layer 1, n=2": "multiplexed",
        "2 layers, pool after layer 1, n=2": "multiplexed",
    }
    kinds = {**plain, **{f"{name}, int8": kind for name, kind in plain.items() if name != "as it is"}, "int8": "int8"}
    assert {point.name: point.kind for point in found.points} == kinds
    mixed = next(point for point in found.points if point.name == "2 layers, pool after layer 1, n=2")
    assert (mixed.layers, mixed.at, mixed.n, mixed.strategy, mixed.trained) == (2, 1, 2, "pool", True)
    assert found.bare.accuracy == 1.0 and found.bare.speed == 1.0 and not found.bare.trained
    exact = next(point for point in found.points if point.name.startswith("class token alone"))
    assert exact.accuracy == 1.0 and exact.agreement is None
    assert all(point.trained == (point.agreement is not None) for point in found.points)
    assert not found.skipped


def test_a_chart_prints_draws_and_becomes_json(found: Frontier) -> None:
    text = str(found)
    assert all(f"| {point.name}" in text for point in found.points)
    assert f"Accuracy on 6 rows, whose standard error is {100 * math.sqrt(7 / 64 / 6):.1f} points." in text
    assert text.endswith(found.sentence(2.0))
    records = found.records(task="toy")
    assert json.loads(json.dumps(records)) == records
    assert {record["task"] for record in records} == {"toy"} and len(records) == len(found.points)
    assert found.plot().get_xlabel() == "speed-up over the trained model"


def test_names_of_points_on_one_spot_do_not_cover_each_other(found: Frontier) -> None:
    here = replace(found.points[0], name="one name")
    same = (here, replace(here, name="another name"), replace(here, name="far away", accuracy=here.accuracy - 0.5))
    assert [text.get_text() for text in draw(same, same).texts] == ["one name", "far away"]


def test_the_front_is_what_nothing_beats(found: Frontier) -> None:
    front = found.front
    assert [p.speed for p in front] == sorted(p.speed for p in front)
    assert [p.accuracy for p in front] == sorted((p.accuracy for p in front), reverse=True)
    for point in found.points:
        beaten = any(p.speed >= point.speed and p.accuracy > point.accuracy for p in found.points)
        beaten |= any(p.speed > point.speed and p.accuracy >= point.accuracy for p in found.points)
        assert beaten == (point not in front)
    assert found.best(100).speed == max(point.speed for point in found.points)


def test_models_come_out_with_their_weights(found: Frontier, tmp_path: Path) -> None:
    model = bert()
    held_out = [rows(model, seed=1)]
    for name in ("pool after layer 1, n=2", "2 layers", "text cut after 4 tokens", "int8"):
        point = next(each for each in found.points if each.name == name)
        scored = muxwrap.evaluate(found.model(name), held_out, groupings=3, progress=False)
        assert scored.mean == pytest.approx(point.accuracy), name
    mixed = found.model("2 layers, pool after layer 1, n=2")
    assert isinstance(mixed, muxwrap.Multiplex)
    assert mixed.config.num_hidden_layers == 2
    mixed.save_pretrained(tmp_path)
    again = muxwrap.load(tmp_path, type(model)(mixed.config))
    assert_same_state(again, mixed)


def test_what_int8_serves_is_not_distilled(found: Frontier) -> None:
    quantised = found.model("2 layers, pool after layer 1, n=2, int8")
    with pytest.raises(muxwrap.MuxwrapError, match=r"distill\(Bert.*'backbone.bert.*is quantised.*quantise it last"):
        distill(quantised, [rows(quantised)], 1)


def test_a_second_call_trains_nothing(found: Frontier, folder: Path) -> None:
    again = chart(bert(), Never(), folder, rivals=["layers", "int8"], layers=2)
    before = {point.name: (point.accuracy, point.agreement) for point in found.points}
    assert [point.name for point in again.points if point.served is None] == [
        "as it is",
        "2 layers",
        "2 layers, pool after layer 1, n=2",
    ]
    assert all(before[point.name] == (point.accuracy, point.agreement) for point in again.points)
    with pytest.raises(muxwrap.MuxwrapError, match=r"record of 'as it is' was made by.*seed=0.*seed=1.*another folder"):
        chart(bert(), Never(), folder, rivals=(), seed=1)


def test_what_makes_no_sense_is_left_out_with_the_reason() -> None:
    net = make("mlp")
    x = torch.randn(6, 12)
    pairs = [(x, net(x).argmax(-1))]
    found = muxwrap.frontier(net, pairs, pairs, test=pairs, n=(2, 30), strategies="slots", **QUICK)
    assert [point.name for point in found.points] == ["as it is", "int8", "slots, n=2", "slots, n=2, int8"]
    reasons = {each.name: each.reason for each in found.skipped}
    assert reasons.keys() == {"class token", "layers", "narrower", "shorter", "slots, n=30"}
    assert "Left out, layers: no list of layers" in str(found)
    assert "wrap(MLP, n=30" in reasons["slots, n=30"]
    assert found.records()[-1]["skipped"] == reasons["slots, n=30"]
    with pytest.raises(muxwrap.MuxwrapError, match=r"'slots, n=2' were not kept; give frontier a folder="):
        found.model("slots, n=2")


def test_a_rival_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muxwrap.frontiers.registry._RIVALS", dict(_RIVALS))

    @register_rival("own")
    def own(subject: Any) -> Iterator[Variant]:
        yield Variant("halved", lambda model: nn.Sequential(_Scale(0.5), model), train=False)
        yield Variant("broken", serve=lambda model: 1 / 0)  # type: ignore[arg-type,return-value]

    assert "own" in list_rivals()
    net, x = make("mlp"), torch.randn(6, 12)
    pairs = [(x, net(x).argmax(-1))]
    found = muxwrap.frontier(net, pairs, pairs, n=2, rivals=["own"], **{**QUICK, "dtype": "bfloat16"})
    assert [point.name for point in found.points] == ["as it is", "halved", "slots, n=2"]
    assert {point.dtype for point in found.points} == {"bfloat16"}
    assert {each.reason for each in found.skipped} == {"ZeroDivisionError: division by zero"}
    assert {each.name for each in found.skipped} == {"broken", "halved, broken", "slots, n=2, broken"}


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def point(name: str, speed: float, accuracy: float, kind: str = "layers") -> Point:
    return Point(name, kind, 2, None, 1, None, None, True, accuracy, None, 0.9, speed, speed * 10, 4, "float32")


BARE = point("as it is", 1.0, 0.8, "as it is")
THREE = point("3 layers", 2.0, 0.79)
FAST, LEVEL, SLOW = (point("pool", speed, 0.79, "multiplexed") for speed in (3.1, 2.03, 1.0))


@pytest.mark.parametrize(
    ("plain", "mixed", "said"),
    [
        (THREE, FAST, "For 2 points you get 3.1x (pool, 79.0%); the best rival within them is 2.0x (3 layers, 79.0%)."),
        (BARE, FAST, "For 2 points you get 3.1x (pool, 79.0%); no rival within them is faster."),
        (
            THREE,
            SLOW,
            "2.0x (3 layers, 79.0%), without multiplexing, whose best within them is 1.0x (pool, 79.0%). Take",
        ),
        (THREE, LEVEL, "multiplexing is level: 2.0x (pool, 79.0%). Take the rival, the simpler of the two."),
        (THREE, None, "without multiplexing: no multiplexed model is within them. Take the rival."),
        (BARE, SLOW, "Nothing is faster than the model as it is within 2 points of its 80.0%."),
        (BARE, None, "Nothing is faster than the model as it is within 2 points of its 80.0%."),
    ],
)
def test_the_sentence_names_the_better_choice(plain: Point, mixed: Point | None, said: str) -> None:
    assert said in sentence(2.0, BARE, plain, mixed)


def test_the_best_within_some_points() -> None:
    facts = {"rows": 100, "class token alone": False}
    slow = point("5 layers", 1.2, 0.8)
    found = Frontier((BARE, slow, THREE, point("pool", 4.0, 0.7, "multiplexed")), (Skipped("x", "y"),), facts, make)
    assert found.best(0).name == "5 layers" and found.best(1).name == "3 layers" and found.best(10).name == "pool"
    assert found.best(10, multiplexed=False).name == "3 layers"
    assert found.sentence(1).startswith("For 1 point you get 2.0x (3 layers")
    assert [each.name for each in found.front] == ["5 layers", "3 layers", "pool"]
    assert f"standard error is {100 * math.sqrt(81 * 21 / 102**2 / 100):.1f} points" in str(found)
    with pytest.raises(muxwrap.MuxwrapError, match=r"best\(points=-1\).*0 or more"):
        found.best(-1)
    with pytest.raises(muxwrap.MuxwrapError, match=r"none is within 1 points of the 80.0%; give more points"):
        found.best(1, multiplexed=True)
    served = Frontier((BARE, slow, replace(THREE, name="3 layers, int8", speed=3.0, served="int8")), (), facts, make)
    assert [served.best(10, served=each).name for each in (None, False, True)] == [
        "3 layers, int8",
        "5 layers",
        "3 layers, int8",
    ]
    with pytest.raises(muxwrap.MuxwrapError, match=r"Frontier.model\('3 layer'\).*did you mean '3 layers'"):
        found.model("3 layer")


class Killed:
    """Batches after so many of which the process ends."""

    def __init__(self, batches: list[Any], left: int) -> None:
        self.batches, self.left = batches, left

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def test_an_interrupted_chart_goes_on_in_the_middle_of_a_training(tmp_path: Path) -> None:
    model = bert()
    batches = [rows(model, seed=seed) for seed in range(3)]
    options: dict[str, Any] = {"steps": 10, "rivals": ["layers"], "layers": 2, "lr": 1e-3}
    killed = Killed(batches, 14)  # four steps into the second training
    with pytest.raises(KeyboardInterrupt):
        chart(model, killed, tmp_path / "killed", **options)
    assert {path.suffix for path in (tmp_path / "killed").iterdir()} == {".json", ".pt", ".part"}
    killed.left = 1000
    again = chart(model, killed, tmp_path / "killed", **options)
    whole = chart(model, batches, tmp_path / "whole", **options)
    assert 1000 - killed.left < 14  # the first training is not repeated
    scores = [[(p.name, p.accuracy, p.agreement) for p in each.points] for each in (again, whole)]
    assert scores[0] == scores[1] and len(scores[0]) == 3
    name = "2 layers, pool after layer 1, n=2"
    assert_same_state(again.model(name), whole.model(name))
    assert not list((tmp_path / "killed").glob("*.part"))
