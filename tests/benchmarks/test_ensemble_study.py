"""The study of ensembles, on files of a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks.studies.vision.data import Data, Split

study = pytest.importorskip("benchmarks.studies.ensemble.study")


def small() -> Data:
    labels = torch.arange(60) % 10
    images = (labels.float() / 5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 20, 20).contiguous()
    framed = F.pad(images, [2] * 4)
    return Data("fashion-mnist", 20, Split(framed, labels), Split(images[:20], labels[:20]), Split(images, labels))


def test_every_network_is_a_record_and_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load", lambda *_: small())
    monkeypatch.setattr(study, "SINGLE", 2)
    monkeypatch.setattr(study, "SEEDS", 1)
    results = tmp_path / "ensemble.json"
    arguments = ["--data", str(tmp_path), "--dataset", "fashion-mnist", "--epochs", "1", "--device", "cpu"]
    arguments += ["--results", str(results), "--same", "0.5"]
    study.main(arguments)
    records = json.loads(results.read_text())["records"]
    assert [(r["n"], r["passes"], r["strategy"]) for r in records] == [
        (1, 1, "bare"),
        (1, 1, "bare"),
        (2, 2, "deep ensemble"),
        (2, 1, "slots"),
        (3, 1, "slots"),
    ]
    plain = [r["test"]["nll"] for r in records[:2]]
    assert records[2]["test"]["nll"] <= sum(plain) / 2  # the mean of probabilities cannot be worse than the mean member
    monkeypatch.setattr(study, "measure", None)  # nothing is measured again
    study.main(arguments)
    assert json.loads(results.read_text())["records"] == records


def test_scores() -> None:
    found = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    result = study.scores(found, Split(torch.zeros(3, 1), torch.tensor([0, 1, 1])))
    assert result["accuracy"] == pytest.approx(200 / 3)
    assert result["nll"] == pytest.approx(-(torch.tensor([0.9, 0.4, 0.8]).log().mean().item()))
    assert result["ece"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-6)
