"""``muxwrap inspect``: sites, the share of the operations, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muxwrap.cli import main


def test_a_model_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "timm:test_resnet", "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Multiplex(ResNet, n=2)" in shown and "99.9 % of the operations run once per mixture" in shown
    assert main(["inspect", "timm:no_such_model"]) == 2
    assert "cannot be made" in capsys.readouterr().err
    assert main(["inspect", "resnet18"]) == 2
    assert "timm:NAME" in capsys.readouterr().err
    assert main(["inspect", "timm:test_resnet", "--strategy", "slot"]) == 2
    assert "did you mean 'slots'?" in capsys.readouterr().err


def test_json_has_what_the_text_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "timm:test_vit", "-n", "2", "--strategy", "walsh", "--demux", "key", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["strategy"], found["demux"]) == (2, "walsh", "key")
    assert 0.5 < found["share"] < 1 and found["mux_at"] == ["patch_embed.proj@output"]
    assert found["added_parameters"] > 0 and not found["warnings"]
    assert found["summary"].startswith("Multiplex(VisionTransformer, n=2)")


def test_a_function_of_the_users_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "own_models:make", "-n", "2", "--shape"]
    assert main([*words, "8"]) == 0
    assert "Multiplex(Sequential, n=2)" in capsys.readouterr().out
    assert main([*words, "8x8"]) == 2
    assert "--shape '8x8': not whole numbers" in capsys.readouterr().err


def test_what_is_warned_of_is_a_note(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "own_models:light", "-n", "2", "--shape", "32"]
    assert main(words) == 0
    few, dear = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert "of the operations run once per mixture" in few and "times the operations of the bare model" in dear
    assert main([*words, "--json"]) == 0
    assert [f"note: {each}" for each in json.loads(capsys.readouterr().out)["warnings"]] == [few, dear]


def test_every_strategy_is_tried_and_the_refused_tell_the_way_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", "own_models:make", "-n", "2", "--shape", "8", "--all"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([*words, "--json"]) == 0
    found = {each["strategy"]: each for each in json.loads(capsys.readouterr().out)}
    assert len(lines) == len(found) + 1
    fitting = {name for name, each in found.items() if each["fits"]}
    assert {"slots", "hadamard", "walsh"} <= fitting and not {"layout", "pool", "concat"} & fitting
    assert found["layout"]["refusal"].startswith("Layout mixes images [C, H, W], and the output of 0")
    assert any(line.startswith("layout") and found["layout"]["refusal"] in line for line in lines)
    assert found["slots"]["mux_at"] == ["0@output"]


def test_a_folder_is_the_model_that_its_config_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=50, architectures=["BertForTokenClassification"], **sizes)
    config.save_pretrained(tmp_path)
    assert main(["inspect", f"hf:{tmp_path}", "-n", "2"]) == 0
    assert "Multiplex(BertForTokenClassification, n=2)" in capsys.readouterr().out
    config.architectures = None
    config.save_pretrained(tmp_path)
    assert main(["inspect", f"hf:{tmp_path}", "-n", "2"]) == 0
    assert "Multiplex(BertForSequenceClassification, n=2)" in capsys.readouterr().out
    assert main(["inspect", f"hf:{tmp_path / 'none'}"]) == 2
    assert "no config.json there" in capsys.readouterr().err
