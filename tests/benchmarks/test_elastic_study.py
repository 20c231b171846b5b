"""The study of elastic n, on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.studies.elastic.report import rows
from benchmarks.studies.vision.data import Data, Split

models = pytest.importorskip("benchmarks.studies.elastic.models")
study = pytest.importorskip("benchmarks.studies.elastic.study")


def small() -> Data:
    torch.manual_seed(0)
    labels = torch.arange(80) % 10
    images = (labels.float() / 5 - 1).view(-1, 1, 1, 1) + 0.1 * torch.randn(80, 1, 20, 20)
    return Data("fashion-mnist", 20, Split(images, labels), *(Split(images[:24], labels[:24]) for _ in range(2)))


def test_every_model_and_size_is_a_record_and_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load", lambda *_: small())
    results = tmp_path / "elastic.json"
    arguments = ["--data", "", "--epochs", "1", "--teacher-epochs", "2", "--device", "cpu"]
    arguments += ["--results", str(results), "--kept", str(tmp_path)]
    study.main(arguments)
    records = json.loads(results.read_text())["records"]
    assert [(r["training"], r["n"]) for r in records] == [
        ("teacher", 1),
        *(("sandwich", n) for n in (1, 2, 4, 8)),
        *(("alone", n) for n in (1, 2, 4, 8)),
        *(("one a step", n) for n in (1, 2, 4, 8)),
        *((name, 1) for name in models.RIVALS),
    ]
    monkeypatch.setattr(study, "measure", None)  # nothing is measured again
    study.main(arguments)
    assert json.loads(results.read_text())["records"] == records
    assert [row[0] for row in rows(records)] == ["n=1", "n=2", "n=4", "n=8"]


def test_a_converted_model_begins_as_its_teacher() -> None:
    torch.manual_seed(0)
    teacher, images = study.transformer(20).eval(), small().test.images
    before = study.logits_of(teacher, images)
    model = study.muxwrap.wrap(teacher, study.SIZES, "pool", mux_at="blocks.1", example_input=images[:1])
    with model.at(1):
        torch.testing.assert_close(study.logits_of(model, images), before)


def test_the_table_compares_with_the_model_made_for_one_n() -> None:
    def record(training: str, n: int, test: float) -> dict[str, object]:
        return {"training": training, "n": n, "test": test}

    found = [record("teacher", 1, 90.0), record("sandwich", 1, 89.8), record("one a step", 1, 89.0)]
    found += [record("alone", 1, 89.5), record("alone", 1, 90.5)]
    assert rows(found) == [["n=1", "90.0 ± 0.7", "89.8 (-0.2)", "89.0 (-1.0)"]]


def test_a_rival_with_fewer_blocks_starts_from_its_teachers() -> None:
    torch.manual_seed(0)
    teacher = models.transformer(20)
    found = models.rival("2 of 4 blocks", teacher, 20)
    assert len(found.blocks) == 2
    assert torch.equal(found.blocks[1].mlp.fc1.weight, teacher.blocks[1].mlp.fc1.weight)
    assert models.rival("32 of 64 wide", teacher, 20).embed_dim == 32
