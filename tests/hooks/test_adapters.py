"""PEFT before and after wrapping: what is right without it stays right, and what should train does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state
from nets import batch, make
from torch import Tensor, nn

import muxwrap

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ADDED = ["strategy", "demuxers.0"]
LABELS = torch.tensor([0, 1, 2, 0, 1])


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **SIZES)
    return transformers.BertForSequenceClassification(config).eval()


def ids(rows: int = 5) -> dict[str, Tensor]:
    """Some rows with padding, and with types, which PEFT's shell does not name in its forward."""
    generator = torch.Generator().manual_seed(rows)
    mask = torch.ones(rows, 7, dtype=torch.long)
    mask[0, 4:] = 0
    tokens = torch.randint(5, 50, (rows, 7), generator=generator)
    return {"input_ids": tokens, "attention_mask": mask, "token_type_ids": (tokens > 25).long()}


def adapted(model: nn.Module, target: str | list[str] = "query", start: bool = False, **options: Any) -> nn.Module:
    """Put LoRA into a model; unless it is to start as nothing, it changes the answers."""
    torch.manual_seed(1)
    targets = [target] if isinstance(target, str) else target
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=start, **options)
    return peft.get_peft_model(model, config).eval()


def trained(model: nn.Module, x: dict[str, Tensor]) -> set[str]:
    """Return the names of the parameters that get a gradient."""
    model.train()
    model(**x, labels=LABELS[: len(x["input_ids"])]).loss.backward()
    model.eval()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


# -- PEFT first ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["SEQ_CLS", None])
@pytest.mark.parametrize("where", [{}, {"demux_at": "classifier"}])
def test_a_model_in_pefts_shell_is_multiplexed_as_it_is(task: str | None, where: dict[str, str]) -> None:
    shell = adapted(bert(), task_type=task, modules_to_save=["classifier"])
    bare = shell(**ids()).logits
    inside = muxwrap.find_sites(bert(), **where)
    model = muxwrap.wrap(shell, 1, "identity", "unbind", **where).eval()
    assert model.sites == inside.renamed(lambda path: f"base_model.model.{path}" if path else path)
    torch.testing.assert_close(model(**ids()).logits, bare)
    muxwrap.unwrap(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in shell.modules())
    torch.testing.assert_close(shell(**ids()).logits, bare, rtol=0, atol=0)


@pytest.mark.parametrize("task", ["SEQ_CLS", None])
def test_adapters_copies_that_train_and_added_parts_train_and_nothing_else(task: str | None) -> None:
    model = muxwrap.wrap(adapted(bert(), task_type=task, modules_to_save=["classifier"]), 2)
    assert len(model.demuxers) == 1  # none for the frozen copy of the classifier
    names = trained(model, ids())
    assert names == trainable(model)
    kinds = {next(kind for kind in ("lora_", "modules_to_save", *ADDED) if kind in name) for name in names}
    assert kinds == {"lora_", "modules_to_save", *ADDED}


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("target", ["query", "word_embeddings", "pooler.dense"])
def test_disable_adapter_gives_the_answers_without_adapters(target: str, n: int) -> None:
    plain = muxwrap.wrap(bert(), n, mux_at="bert.embeddings.word_embeddings").eval()
    model = muxwrap.wrap(adapted(bert(), target), n, mux_at="bert.embeddings.word_embeddings").eval()
    for part in ("strategy", "demuxers"):
        getattr(model, part).load_state_dict(getattr(plain, part).state_dict())
    answer = model(**ids()).logits
    with model.disable_adapter():
        torch.testing.assert_close(model(**ids()).logits, plain(**ids()).logits)
    torch.testing.assert_close(model(**ids()).logits, answer, rtol=0, atol=0)
    assert not torch.allclose(answer, plain(**ids()).logits, atol=1e-5)


@pytest.mark.parametrize("target", ["query", "word_embeddings", "classifier"])
def test_merging_leaves_the_model_inside_wrapped(target: str) -> None:
    where = {"mux_at": "bert.embeddings.word_embeddings", "demux_at": "classifier"}
    model = muxwrap.wrap(adapted(bert(), target), 2, **where).eval()
    twin = copy.deepcopy(model)
    answer = model(**ids()).logits
    torch.testing.assert_close(twin(**ids()).logits, answer, rtol=0, atol=0)
    merged = model.merge_and_unload()
    assert isinstance(merged, muxwrap.Multiplex)
    assert type(merged.backbone) is type(bert())
    torch.testing.assert_close(merged(**ids()).logits, answer)
    torch.testing.assert_close(twin(**ids()).logits, answer, rtol=0, atol=0)
    with pytest.raises(muxwrap.MuxwrapError, match="the model is detached"):
        model(**ids())
    bare = muxwrap.unwrap(merged)
    assert bare.state_dict().keys() == bert().state_dict().keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


def test_the_class_is_that_of_the_model_inside() -> None:
    model = muxwrap.wrap(adapted(bert(), task_type="SEQ_CLS"), 2)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert transformers.utils.find_labels(type(model)) == ["labels"]
    other = transformers.utils.find_labels(type(copy.deepcopy(model)))
    assert other == ["labels"]


def test_all_trained_parameters_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model = muxwrap.wrap(adapted(bert()), 2)
    model.print_trainable_parameters()
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert f"trainable params: {count:,} ||" in capsys.readouterr().out
    assert not hasattr(muxwrap.wrap(bert(), 2), "print_trainable_parameters")


def test_save_and_load(tmp_path: Path) -> None:
    model = muxwrap.wrap(adapted(bert(), task_type="SEQ_CLS"), 2).eval()
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(tmp_path, adapted(bert(), task_type="SEQ_CLS", start=True)).eval()
    assert_same_state(loaded, model)
    torch.testing.assert_close(loaded(**ids()).logits, model(**ids()).logits, rtol=0, atol=0)
    with pytest.raises((OSError, ValueError)):  # rather than random weights
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_adapters_in_a_model_without_a_shell() -> None:
    config = peft.LoraConfig(r=2, target_modules=["stem", "hidden"], init_lora_weights=False)
    net = peft.inject_adapter_in_model(config, make("mlp")).eval()
    x = batch("mlp", 5)
    model = muxwrap.wrap(net, 1, "identity", "unbind", example_input=x).eval()
    assert (model.sites.mux[0].path, model.sites.demux[0].path) == ("stem", "head")
    torch.testing.assert_close(model(x), net(x))


def test_prompt_learning_is_refused_before_and_works_after() -> None:
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    with pytest.raises(muxwrap.MuxwrapError, match=r"get_peft_model\(muxwrap.wrap\(model, n\), config\)"):
        muxwrap.wrap(peft.get_peft_model(bert(), config), 2)
    model = peft.get_peft_model(muxwrap.wrap(bert(), 2), config).eval()
    assert model(**ids()).logits.shape == (5, 3)


# -- wrapped first ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["query", "pooler.dense", "word_embeddings", "classifier"])
@pytest.mark.parametrize("rows", [2, 5])  # one mixture, which would be spread over all rows, and several
def test_adapters_that_begin_as_nothing_change_nothing(target: str, rows: int) -> None:
    where = {"mux_at": "bert.embeddings.word_embeddings", "demux_at": "classifier"}
    model = muxwrap.wrap(bert(), 2, **where).eval()
    answer = model(**ids(rows)).logits
    shell = adapted(model, target, start=True)
    torch.testing.assert_close(shell(**ids(rows)).logits, answer)
    merged = shell.merge_and_unload()
    assert merged is model
    torch.testing.assert_close(merged(**ids(rows)).logits, answer)
    bare = muxwrap.unwrap(merged)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


@pytest.mark.parametrize("demux_at", [None, "classifier"])
def test_everything_named_in_the_config_trains_and_is_saved(demux_at: str | None, tmp_path: Path) -> None:
    def wrapped() -> muxwrap.Multiplex:
        return muxwrap.wrap(bert(), 2, "hadamard", demux_at=demux_at).eval()

    model = wrapped()
    answer = model(**ids()).logits
    added = ["demuxers.0"]  # Hadamard codes are fixed
    shell = adapted(model, task_type="SEQ_CLS", modules_to_save=["classifier", *added])
    changed = shell(**ids()).logits
    assert not torch.allclose(changed, answer, atol=1e-5)
    with shell.disable_adapter():
        torch.testing.assert_close(shell(**ids()).logits, answer)
    names = trained(shell, ids())
    assert names == trainable(shell)
    assert {kind for kind in ("lora_", "classifier", "demuxers.0") if any(kind in name for name in names)} == {
        "lora_",
        "classifier",
        "demuxers.0",
    }
    with torch.no_grad():
        for p in shell.parameters():
            p -= 0.1 * (0 if p.grad is None else p.grad)
    shell.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(wrapped(), tmp_path).eval()
    torch.testing.assert_close(again(**ids()).logits, shell(**ids()).logits)


def test_where_a_wrapped_model_is_wanted_that_in_the_shell_is_named() -> None:
    shell = adapted(muxwrap.wrap(bert(), 2))
    for call in (muxwrap.unwrap, lambda model: muxwrap.training.retrieval_accuracy(model, None, [])):
        with pytest.raises(muxwrap.MuxwrapError, match=r"which is its .get_base_model\(\)"):
            call(shell)
    assert isinstance(shell.get_base_model(), muxwrap.Multiplex)


def test_frozen_added_parts_are_named_once() -> None:
    shell = adapted(muxwrap.wrap(bert(), 2, "slots", "mlp"), modules_to_save=["classifier"])
    assert not shell.training
    shell(**ids())  # nothing is trained yet
    with pytest.warns(UserWarning, match=r"modules_to_save=\['strategy', 'demuxers.0'\]"):
        trained(shell, ids())
    shell.train()(**ids())


def test_causal_models_keep_their_loss_and_refuse_to_generate() -> None:
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, pad_token_id=0)
    tokens = {"input_ids": ids()["input_ids"], "labels": ids()["input_ids"]}
    model = muxwrap.wrap(transformers.GPT2LMHeadModel(config), 2).eval()
    loss = model(**tokens).loss
    shell = adapted(model, "c_attn", start=True, task_type="CAUSAL_LM", fan_in_fan_out=True)
    torch.testing.assert_close(shell(**tokens).loss, loss)
    with pytest.raises(muxwrap.MuxwrapError, match="share their next token"):
        shell.generate(input_ids=tokens["input_ids"])
