"""``muxwrap frontier``: the user's functions in, a table, a picture, records and the sentence out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import pytest
import typer
from texts import tiny
from typer.testing import CliRunner, Result

from muxwrap.cli.frontier import _trained, frontier
from muxwrap.errors import MuxwrapError

matplotlib.use("Agg")

DATA = """
import torch
from own_models import trained

def batches():
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    pairs = [(x, trained()(x).argmax(-1))]
    return pairs, pairs

def three():
    return (*batches(), batches()[1])

def nothing():
    return None

number = 3
"""
MODELS = """
import torch
from torch import nn

def trained():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
"""


@pytest.fixture
def project(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (here / "own_models.py").write_text(MODELS)
    (here / "own_data.py").write_text(DATA)
    monkeypatch.setattr("muxwrap.throughput.timing.TRIAL", 0.0)
    yield here
    sys.modules.pop("own_data", None)


def run(
    *words: str, quick: Sequence[str] = ("-n", "2", "--steps", "1", "--rounds", "1", "--dtype", "float32")
) -> Result:
    app = typer.Typer()
    app.command()(frontier)
    return CliRunner().invoke(app, [*words, *quick])


def test_a_chart_of_the_users_functions(project: Path) -> None:
    options = ["--rival", "int8", "--folder", "kept", "--plot", "chart.png", "--points", "100"]
    result = run("own_models:trained", "own_data:batches", *options)
    assert result.exit_code == 0, result.exception
    assert "| as it is" in result.stdout and "| slots, n=2" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(("For 100 points you get", "Nothing is faster"))
    assert (project / "chart.png").read_bytes()[:4] == b"\x89PNG"
    result = run("own_models:trained", "own_data:three", "--rival", "int8", "--folder", "kept", "--json")
    names = [record["name"] for record in json.loads(result.stdout)]
    assert names == ["as it is", "int8", "slots, n=2", "slots, n=2, int8"]


def test_a_folder_of_transformers_is_loaded_with_its_weights(tmp_path: Path) -> None:
    model = tiny("sequence", "bert")
    model.save_pretrained(tmp_path)
    weight = _trained(f"hf:{tmp_path}").get_parameter("classifier.weight")
    assert weight.equal(model.get_parameter("classifier.weight"))


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("own_models:trained", "own_data:nothing", r"it returned a NoneType; return \(train, held_out\)"),
        ("own_models:trained", "own_data:missing", r"'own_data:missing' is not found: AttributeError"),
        ("own_models:trained", "own_data:number", r"'own_data:number' is a int; name a function"),
        ("timm:resnet18", "own_data:batches", r"frontier timm:resnet18: weights are not loaded by this name"),
    ],
)
def test_what_is_refused(project: Path, model: str, data: str, message: str) -> None:
    result = run(model, data)
    assert isinstance(result.exception, MuxwrapError)
    with pytest.raises(MuxwrapError, match=message):
        raise result.exception
