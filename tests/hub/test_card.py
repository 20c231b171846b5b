"""The model card: what it says, and whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nets import batch, make

import muxwrap
from muxwrap import MuxwrapError
from muxwrap.evaluation.result import Evaluation
from muxwrap.throughput.report import Cell, Report

ACCURACY = Evaluation("accuracy", 4, 1000, (0.91, 0.93), per_index=(0.9, 0.94, 0.93, 0.91), flips=0.05, agreement=None)
CELL = Cell("n=4", 4, "float32", "layout", "mlp", 64, 1234.5, 3.21, 3.21, 0.05, 1e6, 1e9, 4321, 5)


def saved(folder: Path, **options: Any) -> str:
    sizes = options.pop("n", (1, 2, 4))
    muxwrap.wrap(make("cnn"), sizes, "slots", example_input=batch("cnn", 1)).save_pretrained(folder, **options)
    return (folder / "README.md").read_text()


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    text = saved(tmp_path)
    assert text.startswith("---\nlibrary_name: muxwrap\n")
    for line in (
        "# CNN, 4 inputs per pass",
        "| backbone | `CNN` |",
        "| inputs per pass (n) | 4 of 1, 2, 4 |",
        'model = muxwrap.from_pretrained("folder", backbone=...)',
        "Neither accuracy nor speed was given when the model was saved.",
    ):
        assert line in text.splitlines()
    assert "| strategy | `slots` (learnable=True" in text and "| demuxer | `" in text
    assert "| mixed at | output of `stem` |" in text and "% of the operations |" in text


def test_a_library_that_makes_the_backbone_is_asked_for_nothing(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    example = torch.zeros(1, 3, 32, 32)
    muxwrap.wrap(timm.create_model("test_resnet"), 2, example_input=example).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert 'model = muxwrap.from_pretrained("folder")' in text
    assert "| inputs per pass (n) | 2 |" in text


def test_what_was_measured_is_on_it(tmp_path: Path) -> None:
    text = saved(tmp_path, card={"Accuracy": ACCURACY, "Speed": Report([CELL]), "Data": "1,000 drawings."})
    lines = text.splitlines()
    assert "## Accuracy" in lines and "## Speed" in lines
    assert "| accuracy | 0.9200 ± 0.0141 | 2 groupings of 1,000 rows, n=4 |" in lines
    assert "| grouping 1 | 0.9100 |  |" in lines and "| grouping 2 | 0.9300 |  |" in lines
    assert "| best index | 0.9400 | index 1 |" in lines
    assert any(line.startswith("| n=4 | float32 | 64 | 1,234.5 | 3.21 |") for line in lines)
    assert lines[-2:] == ["", "1,000 drawings."] or lines[-1] == "1,000 drawings."


def test_it_follows_the_model_until_somebody_edits_it(tmp_path: Path) -> None:
    assert "4 inputs per pass" in saved(tmp_path)
    text = saved(tmp_path, n=2)
    assert "2 inputs per pass" in text
    own = "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))
    (tmp_path / "README.md").write_text(own)
    assert saved(tmp_path) == own
    (tmp_path / "README.md").write_bytes(b"\xff not text")
    muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1)).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == b"\xff not text"


@pytest.mark.parametrize("card", [{"Accuracy": 0.9}, ["Accuracy"], {"Speed": None}])
def test_what_no_card_is_made_of(card: Any, tmp_path: Path) -> None:
    model = muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1))
    for call in (lambda: model.save_pretrained(tmp_path / "a", card=card), lambda: model.push_to_hub("a/b", card=card)):
        with pytest.raises(
            MuxwrapError, match=r"\(card=.*: a card has titles and, for each, a text, what muxwrap.evaluate"
        ):
            call()
    assert not (tmp_path / "a").exists()
