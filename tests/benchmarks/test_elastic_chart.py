"""The chart of the elastic study's transformer, on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.studies.elastic.chart_report import rows, said
from benchmarks.studies.vision.data import Data, Split

chart = pytest.importorskip("benchmarks.studies.elastic.chart")


def small() -> Data:
    torch.manual_seed(0)
    labels = torch.arange(256) % 10
    images = (labels.float() / 5 - 1).view(-1, 1, 1, 1) + 0.1 * torch.randn(256, 1, 20, 20)
    return Data("fashion-mnist", 20, Split(images, labels), *(Split(images[:24], labels[:24]) for _ in range(2)))


def test_a_chart_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def few(model: torch.nn.Module, *batches: object, **options: object) -> object:
        options |= {"n": 2, "layers": (4, 2), "at": 1, "rivals": ("layers", "int8")}
        options["timing"] = {"rounds": 1, "mixtures": (1,), "seconds": 0.0}
        return whole(model, *batches, progress=False, **options)

    whole = chart.muxwrap.frontier
    monkeypatch.setattr(chart.muxwrap, "frontier", few)
    monkeypatch.setattr("muxwrap.throughput.timing.TRIAL", 0.0)
    monkeypatch.setattr(chart, "load", lambda *_: small())
    results = tmp_path / "frontier.json"
    options = ["--data", "", "--kept", str(tmp_path), "--folder", str(tmp_path / "chart"), "--images", str(tmp_path)]
    options += ["--results", str(results), "--steps", "2"]
    with pytest.raises(SystemExit):
        chart.main(options)
    assert "teacher-0.pt is not there; python -m benchmarks.studies.elastic trains it" in capsys.readouterr().err
    torch.save(chart.transformer(20).state_dict(), tmp_path / "teacher-0.pt")
    chart.main(options)
    records = json.loads(results.read_text())["records"]
    names = {row[0] for row in rows(records)}
    assert {"as it is", "int8", "2 layers", "pool after layer 1, n=2", "2 layers, pool after layer 1, n=2"} <= names
    assert len(said(records)) == 3 and all("point" in each or "Nothing" in each for each in said(records))
    assert (tmp_path / "frontier.png").stat().st_size > 0
    points = [r for r in records if "speed" in r]
    assert len(points) == 8 and {r["device"] for r in records} == {"cpu"}
