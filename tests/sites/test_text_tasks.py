"""What a text model is trained for, multiplexed: masked tokens, sentence embeddings, numbers, several labels at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from texts import sentences, tiny
from torch import Tensor

import muxwrap

MASKED = ["bert", "roberta", "distilbert", "electra", "modernbert", "albert"]
LENGTHS = (6, 4, 5)


def masked_model(model_type: str) -> transformers.PreTrainedModel:
    config = tiny("base", model_type).config
    torch.manual_seed(0)
    return transformers.AutoModelForMaskedLM.from_config(config)


def masked_batch(model: Any) -> dict[str, Tensor]:
    """Three sentences, the second token of each masked and asked for."""
    batch = sentences(LENGTHS)
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, 1] = batch["input_ids"][:, 1]
    batch["input_ids"][:, 1] = 5
    return {**batch, "labels": labels}


@pytest.mark.parametrize("demux", ["mlp", "key", "index"])
@pytest.mark.parametrize("model_type", MASKED)
def test_masked_tokens(model_type: str, demux: str) -> None:
    model = muxwrap.wrap(masked_model(model_type), 2, demux=demux)
    assert not model.sites.demux[0].first_token
    batch = masked_batch(model)
    output = model(**batch)
    assert output.logits.shape[:2] == (3, 6)  # three rows over two mixtures: none is filled up, none is lost
    asked = F.cross_entropy(output.logits[:, 1], batch["labels"][:, 1])
    torch.testing.assert_close(output.loss, asked)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.demuxer.parameters())


def test_masked_tokens_are_learned_for_every_instance() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(vocab_size=20, **sizes, **still)
    model = muxwrap.wrap(transformers.BertForMaskedLM(config), 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(250):
        tokens = torch.randint(10, 20, (32, 1)).repeat(1, 4)  # the other tokens say what the masked one is
        asked = torch.rand(tokens.shape) < 0.25
        output = model(input_ids=tokens.masked_fill(asked, 5), labels=tokens.masked_fill(~asked, -100))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.loss.detach()))
    assert sum(losses[-20:]) / 20 < math.log(2)  # who knows the two tokens and not whose they are stays above


def test_a_masked_language_model_hands_on_what_it_learned() -> None:
    pretrained = muxwrap.wrap(masked_model("bert"), 2)
    tuned = muxwrap.wrap(tiny("sequence", "bert"), 2)
    state = {name: value for name, value in pretrained.state_dict().items() if not name.startswith("backbone.cls")}
    missing, unexpected = tuned.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith(("backbone.bert.pooler", "backbone.classifier")) for name in missing)


# -- sentence embeddings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "mpnet"])
def test_sentence_embeddings(model_type: str, rows: int) -> None:
    model = muxwrap.wrap(tiny("base", model_type), 2)
    batch = sentences((6, 4, 5, 6, 3)[:rows])
    with torch.no_grad():
        output = model(**batch)
    assert output.last_hidden_state.shape == (rows, 6, 32)
    if "pooler_output" in output:
        assert output.pooler_output.shape == (rows, 32)
        pooled = model.backbone.pooler(output.last_hidden_state)
        torch.testing.assert_close(output.pooler_output, pooled)


# -- numbers, and several labels at once ------------------------------------------------------------------------------

PROBLEMS: dict[str, tuple[int, Tensor, Callable[[Tensor, Tensor], Tensor]]] = {
    "regression": (1, torch.tensor([0.5, 1.5, -1.0]), lambda logits, labels: F.mse_loss(logits[:, 0], labels)),
    "multi_label_classification": (
        4,
        torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]]),
        F.binary_cross_entropy_with_logits,
    ),
    "single_label_classification": (4, torch.tensor([1, 0, 3]), F.cross_entropy),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "gpt2"])
def test_the_loss_is_the_backbones_own(model_type: str, problem: str) -> None:
    count, labels, loss = PROBLEMS[problem]
    config = tiny("sequence", model_type).config
    config.num_labels, config.problem_type, config.pad_token_id = count, problem, 7
    bare = transformers.AutoModelForSequenceClassification.from_config(config)
    model = muxwrap.wrap(bare, 2)
    output = model(**sentences(LENGTHS), labels=labels)
    assert output.logits.shape == (3, count)
    torch.testing.assert_close(output.loss, loss(output.logits, labels))
    output.loss.backward()
    assert model.strategy.keys.grad.abs().sum() > 0
