"""The vision study, on files of a few images in the publishers' formats."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

for needed in ("timm", "torchvision", "transformers", "sklearn", "tqdm", "matplotlib"):
    pytest.importorskip(needed)

CLASSES, TRAIN, TEST = 10, 300, 37


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MNIST in small: a square whose brightness is the class."""
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for name, count in (("train", TRAIN), ("t10k", TEST)):
        labels = torch.arange(count) % CLASSES
        images = torch.zeros(count, 28, 28, dtype=torch.uint8)
        images[:, 8:20, 8:20] = (25 * labels).byte().view(-1, 1, 1)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels.byte())):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            path = tmp_path / "data" / "mnist" / f"{name}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + values.numpy().tobytes()))
    return tmp_path / "data"


def study(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[dict[str, Any]]:
    """Run the cells of a table of three."""
    from benchmarks.studies.vision import study, tables

    cell = tables.Cell("mnist", "mlp", "apart@first", 2, 4, lr=1e-2)
    cells = (cell, cell._replace(taught=True), cell._replace(configuration="bare", n=1))
    monkeypatch.setitem(tables.TABLES, "mlp", lambda: iter(cells))
    where = ["--results", str(folder.parent / "vision.json"), "--cache", str(folder.parent / "cache")]
    study.main(["--data", str(folder), "--tables", "mlp", *where, "--threads", "1", "--device", "cpu", *arguments])
    return json.loads((folder.parent / "vision.json").read_text())["records"]


def test_cells_resume_and_are_complete(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = study(folder, monkeypatch)
    assert [(r["configuration"], r["n"], r["taught"]) for r in records] == [
        ("apart@first", 2, False),
        ("apart@first", 2, True),
        ("bare", 1, False),
    ]
    assert len(list((folder.parent / "cache").iterdir())) == 1  # the teacher
    for r in records:
        multiplexed = r["n"] > 1
        assert r["scored"] == TEST and len(r["per_index"]) == r["n"] and r["train_rows"] == TRAIN - TRAIN // 10
        assert r["groupings"] == (5 if multiplexed else 1) and (r["std"] is not None) == multiplexed
        assert (r["strategy"], r["demux"]) == (("slots", "mlp") if multiplexed else (None, None))
        assert (r["added_parameters"] > 0) == multiplexed == (r["operations_ratio"] > 1)
        assert r["steps"] == 4 * 2
    assert records[0]["mean"] != records[1]["mean"]
    assert capsys.readouterr().out.count("mnist mlp") == 3

    first = (folder.parent / "vision.json").read_text()
    study(folder, monkeypatch)
    assert (folder.parent / "vision.json").read_text() == first  # nothing was measured again
    assert capsys.readouterr().out == ""
    assert len(study(folder, monkeypatch, "--only", "bare", "--seeds", "0", "1")) == 4


def test_data_are_cut_held_out_and_standard(folder: Path) -> None:
    from benchmarks.studies.vision.data import load, moved

    data = load("mnist", folder, shift=2)
    assert [tuple(split.images.shape) for split in data[2:]] == [(270, 1, 24, 24), (30, 1, 20, 20), (TEST, 1, 20, 20)]
    assert data.test.labels[:11].tolist() == [*range(10), 0]
    std, mean = torch.std_mean(load("mnist", folder, shift=4).train.images)  # the whole 28 x 28 pixels
    assert (std.item(), mean.item()) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))
    assert load("mnist", folder, 0, limit=50).train.images.shape == (45, 1, 20, 20)

    pixels = torch.arange(24.0).expand(8, 1, 24, 24)
    torch.manual_seed(0)
    windows = moved(pixels, 20, flip=False)
    assert windows.shape == (8, 1, 20, 20) and torch.equal(windows.diff(), torch.ones(8, 1, 20, 19))
    assert len(windows[:, 0, 0, 0].unique()) > 1
    assert {row.sign().unique().item() for row in moved(pixels, 20, flip=True).diff()} == {-1, 1}


def test_the_reported_groupings_have_the_seeds_from_zero(folder: Path) -> None:
    from benchmarks.studies.vision.data import load
    from benchmarks.studies.vision.models import Backbone, make
    from benchmarks.studies.vision.training import evaluate

    images, labels = load("mnist", folder, shift=0).test
    model = make(Backbone("mlp", 1, 20), "slots@first", 4, "mlp", seed=0).eval()
    scores = []
    for seed in range(5):
        order = torch.randperm(TEST, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            scores.append(100 * (model(images[order]).argmax(1) == labels[order]).double().mean().item())
    found = evaluate(model, load("mnist", folder, shift=0).test)
    assert found["mean"] == pytest.approx(statistics.mean(scores)) and found["scored"] == TEST
    assert found["std"] == pytest.approx(statistics.stdev(scores)) and found["std"] > 0
