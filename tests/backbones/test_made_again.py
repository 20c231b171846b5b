"""Backbones that their library makes again: equal to the saved one, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError
from muxwrap._backbones import recipe_of
from muxwrap._backbones.alike import difference

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TOKENS = torch.arange(5, 25).view(4, 5)


def bert(**options: Any) -> nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3, **options))


def llama() -> nn.Module:
    model = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SMALL, num_labels=3))
    model.config.pad_token_id = 0  # as scripts do, after the model is made
    return model


def image_model() -> nn.Module:
    config = transformers.ViTConfig(**{**SMALL, "vocab_size": None}, image_size=16, patch_size=8, num_labels=3)
    return transformers.ViTForImageClassification(config)


TEXT: list[Callable[[], nn.Module]] = [
    bert,
    llama,
    lambda: bert(hidden_act="relu", hidden_dropout_prob=0.3),
    lambda: transformers.BertForTokenClassification(transformers.BertConfig(**SMALL)),
    lambda: bert().to(torch.bfloat16),
]
IMAGES: list[Callable[[], nn.Module]] = [
    lambda: timm.create_model("test_resnet", num_classes=10),
    lambda: timm.create_model("test_resnet", num_classes=0, in_chans=1),
    lambda: timm.create_model("test_resnet", num_classes=5, global_pool="max", drop_rate=0.2),
    lambda: timm.create_model("test_vit", num_classes=10, img_size=32, global_pool="avg"),
    lambda: timm.create_model("test_convnext", num_classes=10).half().float(),
    image_model,
]


def saved_and_loaded(model: muxwrap.Multiplex, folder: Path) -> muxwrap.Multiplex:
    model.eval().save_pretrained(folder)
    before = torch.get_rng_state()
    loaded = muxwrap.from_pretrained(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert not loaded.training
    assert_same_state(loaded, model)
    assert difference(model.backbone, loaded.backbone) is None
    return loaded


@pytest.mark.parametrize("made", TEXT)
def test_text_models(made: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = muxwrap.wrap(made(), 2)
    loaded = saved_and_loaded(model, tmp_path)
    assert torch.equal(loaded(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits)


@pytest.mark.parametrize("made", IMAGES)
def test_image_models(made: Callable[[], nn.Module], tmp_path: Path) -> None:
    backbone = made()
    channels = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d)).in_channels
    size = 16 if hasattr(backbone, "vit") else 32 if getattr(backbone, "in_chans", None) else 64
    images = torch.randn(4, channels, size, size)
    model = muxwrap.wrap(backbone, (1, 2), example_input=images[:1])
    model.n = 1
    loaded = saved_and_loaded(model, tmp_path)
    answers: list[Any] = [each(images) for each in (loaded, model)]
    assert torch.equal(*(getattr(answer, "logits", answer) for answer in answers))
    assert (loaded.n, loaded.sizes) == (1, (1, 2))


def changed(change: Callable[[Any], object], model: nn.Module) -> nn.Module:
    change(model)
    return model


class Own(transformers.BertForSequenceClassification):
    """A user's own subclass."""


CHANGED: list[Callable[[], nn.Module]] = [
    lambda: changed(lambda m: setattr(m, "classifier", nn.Sequential(nn.Linear(32, 3))), bert()),
    lambda: changed(lambda m: setattr(m.bert.encoder.layer[1].output.dropout, "p", 0.7), bert()),
    lambda: changed(lambda m: setattr(m.bert.encoder.layer[1].attention.self, "scaling", 2.0), bert()),
    lambda: changed(lambda m: setattr(m.bert.encoder.layer[0].intermediate, "intermediate_act_fn", nn.Tanh()), bert()),
    lambda: Own(transformers.BertConfig(**SMALL)),
    lambda: changed(lambda m: setattr(m.conv1[0], "stride", (1, 1)), timm.create_model("test_resnet")),
    lambda: changed(lambda m: setattr(m, "forward", lambda x: m.forward_features(x)), timm.create_model("test_vit")),
    lambda: make("tagger"),
]


@pytest.mark.parametrize("made", CHANGED)
def test_what_no_library_makes_has_no_recipe(made: Callable[[], nn.Module]) -> None:
    assert recipe_of(made()) is None


def test_a_model_without_a_recipe_needs_a_backbone(tmp_path: Path) -> None:
    model = muxwrap.wrap(make("tagger"), 2, example_input=batch("tagger", 1)).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(MuxwrapError, match=r"does not say how its backbone is made .*; give the bare model, backbone="):
        muxwrap.from_pretrained(tmp_path)
    assert_same_state(muxwrap.from_pretrained(tmp_path, make("tagger", seed=9)), model)
    alike = muxwrap.wrap(make("tagger", seed=9), 2, example_input=batch("tagger", 1))
    assert muxwrap.from_pretrained(tmp_path, alike) is alike
    assert_same_state(alike, model)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "muxwrap.json"
    config = json.loads(path.read_text())
    del config["sha256"]
    path.write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"library": "timm", "name": "hf-hub:timm/resnet18", "arguments": {}}, "not an architecture of timm"),
        ({"library": "timm", "name": "local-dir:/tmp", "arguments": {}}, "not an architecture of timm"),
        ({"library": "timm", "name": "test_resnet", "arguments": {"checkpoint_path": "x"}}, "checkpoint_path= is not"),
        ({"library": "timm", "name": "test_resnet"}, "'arguments'"),
        ({"library": "timm", "name": "test_vit", "arguments": {"img_size": 0}}, "give the bare model"),
        ({"library": "transformers", "class": "pipeline"}, "give the bare model"),
        ({"library": "transformers", "class": "AutoConfig"}, "AutoConfig is not a model"),
        ({"library": "transformers", "class": "NoSuchModel"}, "NoSuchModel"),
        ({"library": "os", "class": "system"}, "does not say how its backbone is made"),
        ("rm -rf", "does not say how its backbone is made"),
    ],
)
def test_a_recipe_makes_models_of_the_library_and_nothing_else(recipe: Any, message: str, tmp_path: Path) -> None:
    muxwrap.wrap(bert(), 2).save_pretrained(tmp_path)
    edit(tmp_path, recipe=recipe)
    with pytest.raises(MuxwrapError, match=message):
        muxwrap.from_pretrained(tmp_path)


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    muxwrap.wrap(bert(), 2).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MuxwrapError, match=r"config.json is not the one that was saved"):
        muxwrap.from_pretrained(tmp_path)
    edit(tmp_path)
    with pytest.raises(
        MuxwrapError, match=r"config.json of the BertForSequenceClassification cannot be read .*backbone="
    ):
        muxwrap.from_pretrained(tmp_path)


def test_a_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    muxwrap.wrap(bert(), 2).save_pretrained(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MuxwrapError, match=r"a model of transformers .*; pip install 'muxwrap\[hf\]'"):
        muxwrap.from_pretrained(tmp_path)


def test_buffers_that_no_file_holds_keep_their_dtype(tmp_path: Path) -> None:
    model = muxwrap.wrap(llama().to(torch.bfloat16), 2).eval()
    assert model.backbone.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.backbone.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    x: Tensor = loaded(input_ids=TOKENS).logits
    assert torch.equal(x, model(input_ids=TOKENS).logits)
