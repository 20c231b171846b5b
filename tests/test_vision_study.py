"""The vision study, on files of a few images in the publishers' formats."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import muxwrap

for needed in ("timm", "torchvision", "transformers", "tqdm", "matplotlib"):
    pytest.importorskip(needed)

ROOT = Path(__file__).parent.parent
MODULES = (
    "data",
    "models",
    "training",
    "tables",
    "study",
    "speed",
    "report",
    "pictures",
    "teachers",
)  # names that the text study has, too


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.syspath_prepend(str(ROOT / "examples" / "vision"))
    held = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(held)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every file that the study reads: images that are as bright as their label."""
    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion-mnist"):
        (tmp_path / name).mkdir()
        for part, rows in (("train", 200), ("t10k", 45)):
            labels = (np.arange(rows) % 10).astype(np.uint8)
            images = (labels[:, None, None] * 20 + rng.integers(0, 9, (rows, 28, 28))).astype(np.uint8)
            head = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
            with gzip.open(tmp_path / name / f"{part}-images-idx3-ubyte.gz", "wb") as file:
                file.write(head + images.tobytes())
            with gzip.open(tmp_path / name / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
                file.write(b"\0\0\x08\x01" + rows.to_bytes(4, "big") + labels.tobytes())
    (tmp_path / "cifar10-subset").mkdir()
    for part, rows in (("train", 140), ("test", 22)):
        records = rng.integers(0, 255, (rows, 3073)).astype(np.uint8)
        records[:, 0] = np.arange(rows) % 10
        path = tmp_path / "cifar10-subset" / f"cifar10_{part}_{rows}.bin.xz"
        path.write_bytes(lzma.compress(records.tobytes()))
    return tmp_path


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    import study

    results = folder / "vision.json"
    fixed = ["--data", str(folder), "--results", str(results), "--threads", "1", "--device", "cpu"]
    fixed += ["--kept", str(folder / "kept")]
    study.main([*fixed, *arguments])
    return json.loads(results.read_text())["records"]


def test_parts_do_not_meet_and_have_their_sizes(folder: Path) -> None:
    from data import load

    mnist = load("mnist", folder, 2)
    assert [len(part.labels) for part in mnist[2:]] == [180, 20, 45]
    assert mnist.train.images.shape[1:] == (1, 24, 24) and mnist.test.images.shape[1:] == (1, 20, 20)
    with gzip.open(folder / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        pixels = torch.frombuffer(bytearray(file.read()[16:]), dtype=torch.uint8).view(-1, 28, 28).float()
    middle, found = pixels[:, 4:24, 4:24].flatten(), mnist.test.images.flatten()
    scale = (middle.max() - middle.min()) / (found.max() - found.min())  # the pixels, shifted and scaled
    torch.testing.assert_close((found - found.min()) * scale + middle.min(), middle, atol=1e-2, rtol=1e-4)
    assert load("fashion-mnist", folder, 1).train.images.shape[1:] == (1, 22, 22)
    cifar = load("cifar10-subset", folder, 4)
    assert cifar.train.images.shape[1:] == (3, 40, 40) and cifar.select.images.shape == (14, 3, 32, 32)
    assert cifar.train.images[:, :, 0].std((0, 2)).max() < 1e-5  # black around the image
    torch.testing.assert_close(cifar.train.images[..., 4:36, 4:36].mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert load("cifar10-subset", folder, 0, limit=20).train.labels.tolist() == [k % 10 for k in range(18)]


def test_images_are_moved_one_by_one() -> None:
    from data import moved

    images = torch.arange(2 * 64.0).view(2, 1, 8, 8).repeat(50, 1, 1, 1)
    torch.manual_seed(0)
    cut = moved(images, 6, flip=True)
    assert cut.shape == (100, 1, 6, 6)
    lefts = {tuple(row[0, 0, [0, -1]].tolist()) for row in cut}
    assert len(lefts) == 2 * 9 * 2  # two images, three places down and right, turned or not
    assert torch.equal(moved(images[..., :6, :6], 6, flip=False), images[..., :6, :6])


def test_every_image_is_scored_at_every_grouping(folder: Path) -> None:
    from data import Part
    from training import evaluate

    class Echo(torch.nn.Module):
        """Says the label that the image shows, unless the image stands at index 1 of its mixture."""

        n = 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wrong = (torch.arange(len(x)) % 2 == 1).long()
            return torch.nn.functional.one_hot((x.flatten().long() + wrong) % 10, 10).float()

    labels = torch.arange(45) % 10
    found = evaluate(Echo(), Part(labels.float().view(-1, 1), labels))
    assert found["per_index"] == [100, 0] and found["scored"] == 45 and found["groupings"] == 5
    assert found["mean"] == pytest.approx(100 * 23 / 45) and found["std"] == 0


def test_configurations_say_strategy_options_and_place() -> None:
    from models import Backbone, bare, make, operations

    model = make(Backbone("lenet", 1, 20), "layout:channels=4,hidden=(3,)@conv1@input", 4, "mlp", 0)
    assert isinstance(model, muxwrap.Multiplex)
    assert (model.strategy.name, model.strategy.channels, model.strategy.hidden) == ("layout", 4, (3,))
    assert [str(model.sites.mux[0].path), model.sites.mux[0].side] == ["conv1", "input"]
    published = sum(
        p.numel()
        for m in bare(Backbone("lenet", 1, 20)).modules()
        if hasattr(m, "stride") or hasattr(m, "in_features")
        for p in m.parameters(recurse=False)
    )
    assert published == (9 * 6 + 6) + (6 * 16 * 16 + 16) + (16 * 120 * 9 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    bare_cost = operations(bare(Backbone("lenet", 1, 20)), Backbone("lenet", 1, 20))
    assert bare_cost == 2 * (18**2 * 9 * 6 + 36 * 6 * 16 * 16 + 16 * 9 * 120 + 120 * 84 + 84 * 10)


@pytest.mark.parametrize(
    "name", ["lenet", "fashion", "widths", "recipes", "strategies", "places", "mlp", "resnet", "vit"]
)
def test_every_cell_of_the_tables_can_be_made(name: str) -> None:
    from models import Backbone, make
    from speed import SHAPES
    from tables import TABLES

    for cell in TABLES[name]():
        channels, side, _ = SHAPES[cell.dataset]
        model = make(Backbone.of(cell, channels, side), cell.configuration, cell.n, cell.demux, 0)
        assert model(torch.zeros(2 * cell.n, channels, side, side)).shape == (2 * cell.n, 10)


def test_apart_starts_and_learns_apart(folder: Path) -> None:
    from data import load
    from models import Backbone, make
    from tables import TABLES
    from training import Recipe, fit

    cell = next(cell for cell in TABLES["mlp"]() if cell.configuration == "apart@first" and cell.n == 2)
    model = make(Backbone("mlp", 1, 20), cell.configuration, 2, "mlp", 0)
    weight = model.backbone.second[0].weight  # [512, 128]: one segment of two slots in, four out
    between = torch.arange(512)[:, None] % 128 // 64 != torch.arange(128) // 64
    assert (weight[between] == 0).all() and (weight[~between] != 0).all()
    data = load("mnist", folder, 2)
    met = []
    for crosstalk in (0.0, 0.1):
        fit(model, data, Recipe(1, 8, 1e-3, 0.0, 0, crosstalk), lambda _: None)
        met.append(weight[between].abs().mean() / weight[~between].abs().mean())
    assert met[0] == 0 < met[1] < 0.05
    record, taught = run(folder, "--tables", "mlp", "--only", "fashion-mnist mlp apart@first n=8", "--epochs", "1")
    assert record["strategy"] == "slots" and record["configuration"] == "apart@first" and len(record["per_index"]) == 8
    assert not record["taught"] and taught["taught"]


def test_a_bare_network_teaches(folder: Path) -> None:
    import report
    from data import load
    from models import Backbone, make
    from tables import Cell
    from teachers import teacher

    kept = folder / "kept"
    options = ["--tables", "resnet", "--only", "x0.5 bare n=1", "--epochs", "2", "--limit", "60"]
    alone, taught = run(folder, *options)
    assert "taught" not in alone["cell"] and "taught=True" in taught["cell"]
    (path,) = kept.iterdir()
    cell = Cell("cifar10-subset", "resnet", "bare", 1, 2, width=0.5, mixtures=32, shift=4, lr=2e-3, taught=True)
    data = load("cifar10-subset", folder, 4, 60)
    held = teacher(cell, data, kept, torch.device("cpu"), lambda _: None)
    assert path.name.startswith(str(cell.teacher)) and list(kept.iterdir()) == [path] and not held.training
    assert sum(p.numel() for p in held.parameters()) == sum(
        p.numel() for p in make(Backbone("resnet", 3, 32), "bare", 1, "mlp", 0).parameters()
    )
    assert "`bare`, taught" in report._table("resnet", report.points("resnet", _of_the_tables([alone, taught])))


def _of_the_tables(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a trial's records as if they had been trained for as long as the tables say."""
    return [{**r, "group": r["group"].replace("epochs=2", "epochs=80").partition(" limit")[0]} for r in records]


def test_cells_resume_and_are_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import report
    import tables

    cells = [cell._replace(epochs=2) for cell in tables.TABLES["mlp"]()]
    monkeypatch.setitem(tables.TABLES, "mlp", lambda: iter(cells))
    records = run(folder, "--tables", "mlp")
    assert len(records) == len(cells) > 5
    for record in records:
        assert len(record["per_index"]) == record["n"] and record["scored"] == 45
        assert (record["std"] is not None) == (record["n"] > 1)
        saved = 1 if "@second" in record["configuration"] else 1.4  # later saves less
        assert (record["operations_ratio"] > saved) == (record["n"] > 1)
    first = (folder / "vision.json").read_text()
    capsys.readouterr()
    run(folder, "--tables", "mlp")
    assert (folder / "vision.json").read_text() == first and capsys.readouterr().out == ""
    records = run(folder, "--tables", "mlp", "--only", "bare", "--seeds", "0", "1")
    assert len(records) == len(cells) + 2  # one for each data set

    page = report.markdown(records)
    assert "### Perceptron" in page and page.count("(2) |") == 2 and page.count("`slots@first`") == 8
    trial = run(folder, "--tables", "mlp", "--only", "bare", "--epochs", "1", "--limit", "50")
    assert len(trial) == len(records) + 2 and trial[-1]["train_rows"] == 45
    assert report.markdown(trial) == page  # a trial is no cell of the tables
    report.main(["--results", str(folder / "vision.json"), "--images", str(folder / "images")])
    assert [path.name for path in (folder / "images").iterdir()] == ["vision-mlp.png"]


def test_speed_is_measured_and_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import report
    import speed
    import tables

    chosen = [cell for cell in tables.TABLES["resnet"]() if cell.method in ("bare", "slots") and cell.n < 4]
    monkeypatch.setitem(tables.TABLES, "resnet", lambda: iter(chosen[1:] + chosen[:1]))
    results = folder / "vision_speed.json"
    options = ["--rounds", "1", "--seconds", "0.001", "--threads", "1"]
    speed.main(["--tables", "resnet", *options, "--results", str(results)])
    records = json.loads(results.read_text())["records"]
    assert [record["cell"] for record in records] == [chosen[0].network, *(cell.network for cell in chosen[1:])]
    assert records[0]["ratio_to_bare"] == 1
    cell = {"per_index": [50.0], "mean": 50.0, "std": None, "selected": 50.0, "operations_ratio": 1.0}
    found = [{"group": str(each), "added_parameters": 0, **cell} for each in chosen]
    shown = {point.cell: point.speed for point in report.points("resnet", found, records)}
    assert shown == {each: record["ratio_to_bare"] for each, record in zip(chosen, records, strict=True)}
    tables_found = {name: report.points(name, found, records) for name in report.TITLES}
    assert [path.name for path in report.plot(tables_found, folder)] == ["vision-resnet-speed.png"]
    untimed = {name: report.points(name, found) for name in report.TITLES}
    assert report.plot(untimed, folder) == []


def test_lines_begin_at_the_bare_network() -> None:
    from pictures import _from_bare
    from report import Point
    from tables import Cell

    def point(configuration: str, n: int, mean: float, width: float = 1) -> Point:
        cell = Cell("mnist", "lenet", configuration, n, 1, width=width)
        return Point(cell, mean, None, None, 1, (mean, mean), mean, 1.0, 0, None)

    found = [point("a", 4, 4), point("a", 2, 2), point("b", 2, 3), point("bare", 1, 1), point("bare", 1, 0, width=0.5)]
    assert _from_bare(found) == {
        "mnist, width 1, a": [(1, 1, 0), (2, 2, 0), (4, 4, 0)],
        "mnist, width 1, b": [(1, 1, 0), (2, 3, 0)],
    }


def test_processes_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import results

    path = tmp_path / "new" / "vision.json"
    with ThreadPoolExecutor(4) as pool:  # locks are held by open files, so that threads stand for processes
        list(pool.map(lambda k: results.merge_records(path, "vision", [{"cell": k}], key="cell"), range(24)))
    assert sorted(record["cell"] for record in results.read_records(path)) == [*range(24)]
