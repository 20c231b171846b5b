"""``muxwrap predict``: a saved model's answers for files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from batch_jobs import answers, same, sentences, text_model, tokenizer, write
from PIL import Image
from transformers import ViTImageProcessor

import muxwrap
from muxwrap import inference
from muxwrap._util.preprocessing import Processor
from muxwrap.cli import main
from muxwrap.inference.beside import encoder_beside

TEXTS = sentences(12)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    text_model(n=2).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_answers_are_those_of_the_call(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", {"id": list(range(12)), "a": TEXTS, "b": TEXTS[::-1]})
    words = [
        "predict",
        str(saved),
        str(path),
        "--out",
        str(tmp_path / "one"),
        "--text",
        "a",
        "--text",
        "b",
        "--key",
        "id",
    ]
    assert main([*words, "--label", "--json", "--batch", "4", "--max-length", "12"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rows"], shown["errors"], shown["out"]) == (12, 0, str(tmp_path / "one"))
    encoder = inference.Texts(tokenizer(), ("a", "b"), max_length=12)
    options = {"key": "id", "label": True, "batch": 4, "progress": False}
    inference.predict(text_model(n=2), path, tmp_path / "two", encoder, **options)
    found = answers(tmp_path / "one")
    same(found, answers(tmp_path / "two"))
    assert found["3"]["label"].startswith("LABEL_")
    assert main([*words, "--label", "--batch", "4", "--max-length", "12"]) == 0
    assert "12 rows in 1 parts, 1 of them done before" in capsys.readouterr().out


def test_refusals_and_failures(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "a.csv", {"text": ["", ""]}), str(tmp_path / "out")
    words = ["predict", str(saved), str(path), "--out"]
    assert main([*words, out, "-n", "3"]) == 2
    assert "model.n = 3: the model was wrapped for n=2" in capsys.readouterr().err
    assert main([*words, out, "--key", "id"]) == 2
    assert "has no column 'id'" in capsys.readouterr().err
    assert main([*words, out, "--tokenizer", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert (
        "predict: AutoTokenizer cannot read" in shown
        and "give a folder that its save_pretrained wrote" in shown
        and len(shown.splitlines()) == 1
    )
    assert not (tmp_path / "out").exists()
    assert main([*words, out]) == 1  # no row has an answer
    assert "2 with an error" in capsys.readouterr().out


def test_dtype(saved: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": TEXTS})
    for name, options in (("whole", []), ("half", ["--dtype", "bfloat16"])):
        assert main(["predict", str(saved), str(path), "--out", str(tmp_path / name), *options]) == 0
    whole, half = (
        torch.tensor([row["logits"] for row in answers(tmp_path / name).values()]) for name in ("whole", "half")
    )
    assert not torch.equal(whole, half)
    torch.testing.assert_close(half, whole, atol=0.1, rtol=0.1)
    assert torch.equal(half, half.bfloat16().float())


def test_images_of_timm_and_of_transformers(tmp_path: Path) -> None:
    backbone = timm.create_model("test_vit", num_classes=3)
    muxwrap.wrap(backbone, 2).eval().save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for number in range(3):
        Image.effect_noise((50, 40), 40 + number).convert("RGB").save(tmp_path / "data" / f"{number}.png")
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "data"), "--out"]
    assert main([*words, str(tmp_path / "timm")]) == 0
    assert list(answers(tmp_path / "timm")) == ["0.png", "1.png", "2.png"]
    ViTImageProcessor(size={"height": 160, "width": 160}).save_pretrained(tmp_path / "processor")
    assert main([*words, str(tmp_path / "hf"), "--processor", str(tmp_path / "processor")]) == 0
    assert {row["error"] for row in answers(tmp_path / "hf").values()} == {None}
    model = muxwrap.from_pretrained(tmp_path / "model")
    encoder = encoder_beside(tmp_path / "model", model, processor=tmp_path / "processor")
    assert isinstance(encoder, inference.Images) and isinstance(encoder.transform, Processor)
    assert encoder.transform(Image.new("RGB", (9, 9))).shape == (3, 160, 160)


def test_nothing_says_how_inputs_are_made(tmp_path: Path) -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"nothing there says how the inputs of BertFor.*save the tokenizer"):
        encoder_beside(tmp_path, text_model())
