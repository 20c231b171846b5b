"""``muxwrap bench``: measured and predicted, as text, as JSON and as a plot."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest
import torch

from muxwrap.cli import main

matplotlib.use("Agg")
TINY = ["bench", "own_models:make", "--shape", "8"]


def test_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = here / "bench.png"
    words = [*TINY, "-n", "2,4", "--rounds", "1"]
    assert main([*words, "--plot", str(plot)]) == 0
    assert "| n=4 |" in capsys.readouterr().out
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert main([*words, "--json"]) == 0
    assert [record["n"] for record in json.loads(capsys.readouterr().out)] == [1, 2, 4]


def test_the_faster_dtype(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "-n", "2", "--rounds", "1", "--dtype", "auto"]) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("The bare model is fastest in "))
    dtype = line.removeprefix("The bare model is fastest in ").split(";")[0]
    assert dtype in ("float32", "bfloat16")
    tried = [line for line in printed.splitlines() if line.startswith("| bare |")]
    assert len(tried) == 3  # in both dtypes, and beside n=2
    assert f"| n=2 | {dtype} |" in printed
    assert "for bfloat16: " in printed or torch.accelerator.is_available()


def test_predicted_in_a_dtype(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "-n", "2", "--dtype", "bfloat16", "--predict"]
    assert main(words) == 0
    assert "x, predicted in bfloat16" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record.keys() == {"backbone", "n", "dtype", "predicted"} and record["predicted"] > 0


def test_what_is_no_list_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "timm:test_vit", "-n", "2 4"]) == 2
    assert "-n '2 4': not whole numbers with commas between; give some, such as 2,5,10" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--plot", "bench.png"), ("--train",)])
def test_a_prediction_ignores_no_option(
    here: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    assert main([*TINY, "-n", "2", "--predict", *option]) == 2
    assert f"--predict {option[0]}: a prediction is of the forward alone" in capsys.readouterr().err
    assert not (here / "bench.png").exists()
