"""The benchmark of float32 beside bfloat16, on a small network: its records, its picture, and the records it leaves alone."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.speed import allocator, arithmetic, bound, throughput

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two layers of 32 instead of 12 of 768, and one batch size."""
    make = bound.bert
    monkeypatch.setattr(bound, "bert", lambda *_: make(2, 64))
    monkeypatch.setattr(arithmetic, "bert", lambda *_: make(2, 64))
    monkeypatch.setattr(bound, "COUNTS", (2, 4))
    monkeypatch.setattr(bound, "MIXTURES", (1,))
    yield


@pytest.mark.parametrize(("instructions", "dtypes"), [("amx_bf16", ["float32", "bfloat16"]), (None, ["float32"])])
def test_sequences_in_the_dtypes_of_the_processor(
    instructions: str | None, dtypes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "bfloat16_instructions", lambda: instructions)
    cells = bound.sequence(Namespace(rounds=1), lambda _: None)
    assert [(cell["dtype"], cell["n"]) for cell in cells] == [(dtype, n) for dtype in dtypes for n in (1, 2, 4)]
    assert all(cell["bound"] == cell["n"] for cell in cells)
    assert all(("predicted" in cell) == (cell["n"] > 1) for cell in cells)
    assert [cell["ratio_to_bare"] for cell in cells if cell["n"] == 1] == [1] * len(dtypes)
    assert {cell["bfloat16_instructions"] for cell in cells} == {instructions}


def test_weights_and_autocast() -> None:
    cells = arithmetic.arithmetic_bfloat16(Namespace(), lambda _: None)
    names = [
        f"{model}, {kind}" for model in ("bare", "n=20") for kind in ("eager", "bfloat16 autocast", "bfloat16 weights")
    ]
    assert [cell["name"] for cell in cells] == names
    assert [cell["dtype"] for cell in cells] == ["float32", "float32", "bfloat16"] * 2
    assert all(cell["ratio_to_bare"] == cell["ratio_to_first"] for cell in cells)


def test_only_what_is_measured_again_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "bfloat16_instructions", lambda: "amx_bf16")
    results = tmp_path / "docs" / "results" / "throughput.json"
    results.parent.mkdir(parents=True)
    kept = {"study": "memory", "name": "bare", "n": 1}
    old = {"study": "sequence", "name": "old", "n": 1}
    results.write_text(json.dumps({"records": [kept, old]}))
    torch.manual_seed(0)
    throughput.main(["--only", "sequence", "--rounds", "1", "--results", str(results)])
    records = json.loads(results.read_text())["records"]
    assert [record for record in records if record["study"] != "sequence"] == [kept]
    assert old not in records and len(records) == 7
    assert (tmp_path / "docs" / "images" / "throughput.png").exists()


def test_the_command_starts_again_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, argv, env: started.append((argv, env)))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "benchmarks.speed.throughput", "--only", "share"])
    for name in allocator.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    allocator.keep_memory()
    ((argv, env),) = started
    assert argv == [sys.executable, "-m", "benchmarks.speed.throughput", "--only", "share"]
    for name, value in allocator.SETTINGS.items():
        assert env[name] == value
        monkeypatch.setenv(name, value)
    allocator.keep_memory()
    assert len(started) == 1
