"""What a folder says about the inputs of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from served import model, tokenizer

from muxwrap.errors import MuxwrapError
from muxwrap.serving.folders import kind_of_input


def test_a_tokenizer_makes_it_text(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "other").mkdir()
    for folder, given in ((tmp_path, None), (tmp_path / "other", tmp_path)):
        (found,) = kind_of_input(folder, model(), given).items()
        assert found[0] == "tokenizer" and found[1]("a b")["input_ids"] == tokenizer()("a b")["input_ids"]


def test_a_processor_makes_it_images(tmp_path: Path) -> None:
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    transform = kind_of_input(tmp_path, model())["transform"]
    assert transform(Image.fromarray(np.zeros((9, 12, 3), np.uint8))).shape == (3, 8, 8)


def test_a_model_of_timm_knows_its_transform(tmp_path: Path) -> None:
    backbone = timm.create_model("test_resnet")
    transform = kind_of_input(tmp_path, backbone)["transform"]
    size = backbone.pretrained_cfg["input_size"]
    assert tuple(transform(Image.fromarray(np.zeros((90, 120, 3), np.uint8))).shape) == size


def test_numbers_have_a_shape(tmp_path: Path) -> None:
    example = kind_of_input(tmp_path, model(), None, "3,8", "int64")["example_input"]
    assert (example.shape, example.dtype) == ((1, 3, 8), torch.int64)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, r"serve .*: neither a tokenizer nor an image processor lies there, .*; save one beside it"),
        ({"tokenizer": Path("user/name")}, r"serve: user/name is no folder; give one"),
        ({"shape": "3x"}, r"serve --shape 3x --dtype float32: give a shape such as 3,8,8"),
        ({"shape": "0"}, r"serve --shape 0 "),
        ({"shape": "3", "dtype": "float"}, None),
        ({"shape": "3", "dtype": "nn"}, r"serve --shape 3 --dtype nn: give a shape"),
    ],
)
def test_what_a_folder_does_not_say(more: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    if message is None:
        assert kind_of_input(tmp_path, model(), **more)["example_input"].dtype == torch.float32
        return
    with pytest.raises(MuxwrapError, match=message):
        kind_of_input(tmp_path, model(), **more)


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "NoSuchTokenizer"}))
    with pytest.raises(
        MuxwrapError, match=r"serve: AutoTokenizer cannot read .*; give a folder that its save_pretrained wrote"
    ):
        kind_of_input(tmp_path, model())
