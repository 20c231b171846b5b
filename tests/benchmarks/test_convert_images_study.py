"""The study of a converted image classifier, with random weights and a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.studies.convert_images.report import rows
from benchmarks.studies.vision.data import Split

study = pytest.importorskip("benchmarks.studies.convert_images.study")
backbone = pytest.importorskip("benchmarks.studies.convert_images.backbone")
Configuration = study.Configuration


def small(folder: Path) -> list[Split]:
    del folder
    torch.manual_seed(0)
    return [Split(255 * torch.rand(rows, 3, 32, 32), torch.arange(rows) % 10) for rows in (24, 10)]


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = backbone.pretrained(None).eval()
    return made


def test_stem_and_trunk_are_the_network(network: torch.nn.Module) -> None:
    images = small(Path())[1].images
    with torch.no_grad():
        made = backbone.features(backbone.stem_of(network), images, 64)
        assert made.shape == (10, 40, 8, 8)
        torch.testing.assert_close(backbone.trunk_of(network)(made), network(backbone.resized(images, 64)))


def test_weights_in_timm_s_order_are_taken_under_other_names(network: torch.nn.Module, tmp_path: Path) -> None:
    whole = study.pretrained(None)
    whole.reset_classifier(1000)
    torch.save({f"other.{i}": value for i, value in enumerate(whole.state_dict().values())}, tmp_path / "weights.pth")
    read = backbone.pretrained(tmp_path / "weights.pth").state_dict()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in read.items() if "classifier" not in name)


def test_fewer_blocks_leave_out_what_adds_to_its_input(network: torch.nn.Module) -> None:
    trunk = backbone.trunk_of(network).eval()
    for stage in trunk.blocks:
        for block in stage[1:]:
            block.bn3.weight.data.zero_()  # adds nothing
            block.bn3.bias.data.zero_()
    made = torch.randn(2, 40, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(backbone.fewer_blocks(trunk, 1)(made), trunk(made))


@pytest.mark.parametrize(
    "config",
    [
        Configuration("orthogonal", after=3, n=2),
        Configuration("layout", after=3, n=4),
        Configuration("slots", after=5, n=4),
    ],
    ids=str,
)
def test_mixed_after_a_stage(config: study.Configuration, network: torch.nn.Module) -> None:
    made = torch.randn(5, 40, 8, 8)
    model = config.make(backbone.trunk_of(network), made[:1], seed=0).eval()
    assert model(made).shape == (5, 10)
    held = [p for p in model.backbone.parameters() if not p.requires_grad]
    assert held and all(p.shape[1] == 1 for p in held)  # the depthwise filters
    assert study.operations(model, lambda count: made[:1].expand(count, -1, -1, -1)) < study.operations(
        model.backbone, lambda count: made[:1].expand(count, -1, -1, -1)
    )


def test_every_model_is_a_record_and_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [
        Configuration("orthogonal", after=4, n=2),
        Configuration("orthogonal", after=4, n=2, states=True),
        Configuration("plain", side=32),
        Configuration("plain", repeats=1),
    ]
    monkeypatch.setattr(study, "cifar10", small)
    monkeypatch.setattr(study, "HELD_OUT", 8)
    monkeypatch.setattr(study, "configurations", lambda: chosen)
    results = tmp_path / "images.json"
    arguments = ["--data", "", "--epochs", "1", "--teacher-epochs", "1", "--device", "cpu"]
    arguments += ["--results", str(results), "--kept", str(tmp_path)]
    study.main(arguments)
    records = json.loads(results.read_text())["records"]
    assert [r["configuration"] for r in records] == ["teacher", *map(str, chosen)]
    assert all(r["mflops"] < records[0]["mflops"] for r in records[1:])
    monkeypatch.setattr(study, "measure", None)  # nothing is measured again
    study.main(arguments)
    assert json.loads(results.read_text())["records"] == records
    assert next(row[0] for row in rows(records)) == "teacher"


def test_single_models_are_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "cifar10", small)
    monkeypatch.setattr(study, "HELD_OUT", 8)
    results = tmp_path / "images.json"
    arguments = ["--data", "", "--epochs", "1", "--teacher-epochs", "1", "--device", "cpu", "--results", str(results)]
    arguments += ["--kept", str(tmp_path), "--only"]
    study.main([*arguments, "plain, 1 blocks a stage"])
    found = [r["configuration"] for r in json.loads(results.read_text())["records"]]
    assert found == ["teacher", "plain, 1 blocks a stage"]
    with pytest.raises(SystemExit):
        study.main([*arguments, "plain, 2 pixels"])
    assert "--only 'plain, 2 pixels': no such model; there are orthogonal after stage 4, n=2" in capsys.readouterr().err
