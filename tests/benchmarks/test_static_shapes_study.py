"""The benchmark of static shapes on the smallest networks: one call of every graph is one image, or one mixture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

for needed in ("openvino", "onnxruntime", "timm", "torchvision", "transformers", "sklearn"):
    pytest.importorskip(needed)

# In a process of its own: OpenVINO gives each model's thread a signal stack, and where several models are freed in the order
# in which they were made, the thread is left with one that is freed too. The next signal that Python handles crashes it.
SMALL = """
import sys
from benchmarks.speed import static_shapes

static_shapes.MODELS = {"test_resnet": "test_efficientnet"}
static_shapes.COUNTS = (2,)
static_shapes.main(["--rounds", "1", "--seconds", "0.01", "--results", sys.argv[1]])
"""


def test_a_record_per_model_and_runtime(tmp_path: Path) -> None:
    results = tmp_path / "static_shapes.json"
    subprocess.run([sys.executable, "-c", SMALL, results], cwd=ROOT, check=True)
    records = json.loads(results.read_text())["records"]
    names = ["bare", "n=2", "bare test_efficientnet"]
    runtimes = ["onnxruntime", "openvino"]
    assert [(r["runtime"], r["name"]) for r in records] == [(w, name) for w in runtimes for name in names]
    assert [r["rows"] for r in records] == [1, 2, 1] * 2
    assert all(r["ratio_to_bare"] == 1 for r in records if r["name"] == "bare")
    assert records[1]["flops"] < 0.6 * records[0]["flops"]
