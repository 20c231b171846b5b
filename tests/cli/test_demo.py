"""``muxwrap demo``: the table, JSON, and what is refused before anything is trained."""

from __future__ import annotations

import json
import sys

import pytest

from muxwrap._demo import run
from muxwrap.cli import main

QUICK = ["demo", "--epochs", "1", "--limit", "48"]


@pytest.fixture(autouse=True)
def a_short_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = run.compare
    monkeypatch.setattr(
        run,
        "compare",
        lambda cells, **options: compare(cells, **{**options, "mixtures": (1,), "rounds": 1, "seconds": 0.0}),
    )


def test_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "-n", "1,2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits: 48 images to train on, 48 to test, 1 epoch each"
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["model", "accuracy", "images/s", "speed-up", "added", "parameters"]
    assert [line.split()[0] for line in table[1:]] == ["bare", "n=2"]
    assert main([*QUICK, "-n", "2", "--json"]) == 0
    bare, mixed = json.loads(capsys.readouterr().out)
    assert (bare["n"], bare["ratio_to_bare"], mixed["n"], mixed["epochs"]) == (1, 1.0, 2, 1)
    assert mixed["added_parameters"] > 0 and 0 <= mixed["mean"] <= 100 and mixed["groupings"] == 5


@pytest.mark.parametrize("n", ["0", "2,-1"])
def test_no_count_is_refused_before_training(n: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "-n", n]) == 2
    shown = capsys.readouterr()
    assert "right" not in shown.out and len(shown.err.splitlines()) == 1


def test_without_its_images_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(QUICK) == 2
    shown = capsys.readouterr()
    assert not shown.out and len(shown.err.splitlines()) == 1
    assert "pip install 'muxwrap[demo]', or give the folder of MNIST's four files with --data" in shown.err


def test_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--data", "no-such-folder"]) == 2
    assert "demo --data no-such-folder: neither train-images-idx3-ubyte nor" in capsys.readouterr().err
