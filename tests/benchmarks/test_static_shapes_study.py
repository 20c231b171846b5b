"""The benchmark of static shapes on the smallest networks: one call of every graph is one image, or one mixture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

for needed in ("openvino", "onnxruntime", "timm", "torchvision", "transformers", "sklearn"):
    pytest.importorskip(needed)


def test_a_record_per_model_and_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.speed import static_shapes

    monkeypatch.setattr(static_shapes, "MODELS", {"test_resnet": "test_efficientnet"})
    monkeypatch.setattr(static_shapes, "COUNTS", (2,))
    results = tmp_path / "static_shapes.json"
    static_shapes.main(["--rounds", "1", "--seconds", "0.01", "--results", str(results)])
    records = json.loads(results.read_text())["records"]
    names = ["bare", "n=2", "bare test_efficientnet"]
    assert [(r["runtime"], r["name"]) for r in records] == [(w, name) for w in static_shapes.RUNTIMES for name in names]
    assert [r["rows"] for r in records] == [1, 2, 1] * 2
    assert all(r["ratio_to_bare"] == 1 for r in records if r["name"] == "bare")
    assert records[1]["flops"] < 0.6 * records[0]["flops"]
