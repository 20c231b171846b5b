"""The measurement of what looking for bad rows costs, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from nets import batch, make

from benchmarks.speed import check_finite


def test_every_mode_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("mlp"), lambda rows: batch("mlp", rows), batch("mlp", 1)
    monkeypatch.setattr(check_finite, "MODELS", {"mlp": lambda: made})
    out = tmp_path / "found.json"
    threads = str(torch.get_num_threads())
    check_finite.main(["--only", "mlp", "--n", "2", "--rounds", "2", "--threads", threads, "--out", str(out)])
    (record,) = json.loads(out.read_text())["records"]
    assert record["name"] == "mlp, n=2" and record["seconds"] > 0
    assert all(record[mode] > -1 for mode in ("raise", "isolate"))
