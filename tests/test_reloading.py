"""What was saved, opened again by the libraries of the backbones, and the Trainer's own checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from safetensors.torch import load_file
from torch import Tensor, nn

import muxwrap

transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BACKBONES = {  # the last two are tied in different ways, experts are fused by Transformers when they are loaded
    "BertForSequenceClassification": lambda: transformers.BertConfig(**SMALL, num_labels=3),
    "BertModel": lambda: transformers.BertConfig(**SMALL),
    "MixtralForSequenceClassification": lambda: transformers.MixtralConfig(
        **SMALL, num_labels=3, num_key_value_heads=2, num_local_experts=2, pad_token_id=0
    ),
    "BertForMaskedLM": lambda: transformers.BertConfig(**SMALL),
    "GPT2LMHeadModel": lambda: transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=32),
    "T5ForConditionalGeneration": lambda: transformers.T5Config(
        vocab_size=50, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0
    ),
}
TOKENS = torch.arange(5, 25).view(4, 5)


def backbone(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return getattr(transformers, name)(BACKBONES[name]()).eval()


def wrapped(name: str) -> muxwrap.Multiplex:
    return muxwrap.wrap(backbone(name), 2).eval()


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("name", BACKBONES)
def test_from_pretrained_makes_the_bare_model_of_it(name: str, safe: bool, tmp_path: Path) -> None:
    model = wrapped(name)
    model.save_pretrained(tmp_path, safe_serialization=safe)
    bare, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_state(bare, model.backbone)
    auto = transformers.AutoModel.from_pretrained(tmp_path)
    own, loaded = model.backbone.base_model.state_dict(), auto.state_dict()
    shared = own.keys() & loaded.keys()
    assert len(shared) > 10
    assert all(torch.equal(own[key], loaded[key]) for key in shared)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [name]
    assert_same_state(muxwrap.load(tmp_path, backbone(name, seed=1), allow_pickle=not safe), model)


class Foreign(nn.Module):
    """A user's own module that holds a Transformers model and its config."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = backbone("BertModel")
        self.config = self.inner.config
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.inner(input_ids).last_hidden_state[:, 0])


def new_head() -> nn.Module:
    model = backbone("BertForSequenceClassification")
    model.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    return model


@pytest.mark.parametrize("make", [Foreign, new_head])
@pytest.mark.parametrize("safe", [True, False])
def test_where_the_names_are_not_those_of_the_config_nothing_is_found(make: Any, safe: bool, tmp_path: Path) -> None:
    wrapped("BertForSequenceClassification").save_pretrained(tmp_path)  # left from before
    model = muxwrap.wrap(make(), 2, example_input={"input_ids": TOKENS})
    model.save_pretrained(tmp_path, safe_serialization=safe)
    with pytest.raises(OSError, match=r"no file named model.safetensors"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert_same_state(muxwrap.load(tmp_path, make(), allow_pickle=not safe), model)


def test_timm_reads_the_backbone_alone(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    example = torch.zeros(1, 3, 32, 32)
    torch.manual_seed(0)
    model = muxwrap.wrap(timm.create_model("test_resnet", num_classes=10), 2, example_input=example)
    model.save_pretrained(tmp_path)
    bare = timm.create_model("test_resnet", num_classes=10, checkpoint_path=str(tmp_path / "model.safetensors"))
    assert_same_state(bare, model.backbone)


# -- the Trainer --------------------------------------------------------------------------------------------------


def trainer(model: nn.Module, folder: Path, **options: Any) -> Any:
    pytest.importorskip("accelerate")
    options = {"max_steps": 2, "save_steps": 1, "eval_steps": 1, "eval_strategy": "steps", **options}
    args = transformers.TrainingArguments(
        str(folder), use_cpu=True, report_to="none", disable_tqdm=True, per_device_train_batch_size=4, **options
    )
    data = [{"input_ids": row, "labels": row} for row in TOKENS]
    return transformers.Trainer(model, args, train_dataset=data, eval_dataset=data)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel"])
def test_checkpoints_of_the_trainer_where_weights_are_tied(name: str, tmp_path: Path) -> None:
    model = wrapped(name)
    first = trainer(model, tmp_path, load_best_model_at_end=True)
    first.train()
    first.save_model(str(tmp_path / "end"))
    for folder in ("checkpoint-2", "end"):
        loaded = muxwrap.load(tmp_path / folder, wrapped(name))
        assert_same_state(loaded, model)
        embedding = loaded.get_input_embeddings().weight
        assert loaded.get_output_embeddings().weight is embedding
        with pytest.raises(muxwrap.MuxwrapError, match=r"give the wrapped model, load\(folder, muxwrap.wrap"):
            muxwrap.load(tmp_path / folder, backbone(name))
        with pytest.raises((OSError, ValueError)):  # there is no config
            transformers.AutoModel.from_pretrained(tmp_path / folder)

    torch.manual_seed(3)
    whole = wrapped(name)
    trainer(whole, tmp_path / "whole", max_steps=3).train()
    resumed = wrapped(name)
    trainer(resumed, tmp_path / "whole", max_steps=3).train(
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2")
    )
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


def test_the_trainer_does_not_resume_from_what_holds_the_backbone_alone(tmp_path: Path) -> None:
    model = wrapped("BertForMaskedLM")
    model.save_pretrained(tmp_path)
    with pytest.raises(muxwrap.MuxwrapError, match=r"none of the names"):
        trainer(model, tmp_path).train(resume_from_checkpoint=str(tmp_path))


def test_what_the_trainer_wrote_over_is_read_as_it_is(tmp_path: Path) -> None:
    model = wrapped("BertForMaskedLM")
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for p in model.parameters():
            p += 1
    trainer(model, tmp_path).save_model(str(tmp_path))
    assert any(name.startswith("backbone.") for name in load_file(tmp_path / "model.safetensors"))
    assert_same_state(muxwrap.load(tmp_path, backbone("BertForMaskedLM")), model)
