"""What is done to a wrapped model in any order: a short run of the machine, and that it finds what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.fuzz import machine
from muxwrap import Multiplex


def test_in_any_order_it_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.Machine, "compiles", 0)
    machine.run(examples=5, steps=12)


def test_it_finds_a_hook_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    treated = machine.Machine()
    treated.begin("vectors", 0)
    treated.wrap(2, "slots", False)
    treated.compile(3)
    monkeypatch.setattr(Multiplex, "detach", lambda self: self.backbone)
    with pytest.raises(AssertionError):
        treated.unwrap()


def test_what_was_seen_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        machine.Machine.seen["runs"] += 1
        raise AssertionError("rows are missing")

    monkeypatch.setattr(machine, "run", fails)
    assert machine.main(["--minutes", "0.1", "--out", str(tmp_path / "machine.json")]) == 1
    seen, *faults = json.loads((tmp_path / "machine.json").read_text())["records"]
    assert seen["faults"] == len(faults) == 5 and "rows are missing" in faults[0]["message"]
    assert torch.is_grad_enabled()
