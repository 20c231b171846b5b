"""Calls, collators and wrappers of other libraries' scripts: as with the bare model, or refused with a way that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import muxwrap
from muxwrap import MuxwrapError

transformers = pytest.importorskip("transformers")

from texts import sentences, tiny  # noqa: E402

DECODERS = ["llama", "opt", "gpt2", "bloom"]


def alone(bare: nn.Module, **options: Any) -> muxwrap.Multiplex:
    """The bare model, if n=1 changes nothing."""
    return muxwrap.wrap(bare, 1, "identity", "unbind", **options).eval()


# -- padding ----------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent head over a Transformers model, which reads what stands at padding, too."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = tiny("base", "bert")
        self.rnn, self.out = nn.LSTM(32, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        answer: Tensor = self.out(self.rnn(self.bert(input_ids, attention_mask).last_hidden_state)[0])
        return answer


def test_a_head_that_reads_padding() -> None:
    torch.manual_seed(0)
    bare, call = Recurrent().eval(), sentences((9, 4, 6))
    expected = bare(**call)
    torch.testing.assert_close(alone(bare, example_input=sentences((5,)))(**call), expected)


@pytest.mark.parametrize("model_type", ["bert", "xlnet", "convbert"])
def test_one_instance_keeps_its_padding_on_either_side(model_type: str) -> None:
    bare, call = tiny("sequence", model_type), sentences((9, 4, 6))
    turned = {name: value.flip(1) for name, value in call.items()}
    expected = [bare(**c).logits for c in (call, turned)]
    model = alone(bare)
    torch.testing.assert_close([model(**c).logits for c in (call, turned)], expected)


def test_padding_of_all_instances_is_kept_in_chunks_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    model = muxwrap.wrap(Recurrent(), 3, "hadamard", example_input=sentences((5,))).eval()
    call = sentences((4, 7, 3, 9, 9, 2, 5))
    expected = model(**call)
    for elements in (
        9 * 32,
        9 * 32 * 2,
        9 * 32 * 3,
    ):  # one, two and three rows at a time: parts of a group, and whole ones
        monkeypatch.setattr("muxwrap._hooks.chunks.ELEMENTS", elements)
        with torch.no_grad():
            torch.testing.assert_close(model(**call), expected)


# -- embeddings in place of ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("model_type", DECODERS)
def test_embeddings_in_place_of_ids(model_type: str, n: int) -> None:
    bare = tiny("sequence", model_type)
    call = sentences((6, 6, 6, 6, 6))
    embeds = {"inputs_embeds": bare.get_input_embeddings()(call["input_ids"]), "attention_mask": call["attention_mask"]}
    expected = bare(**embeds).logits
    model = alone(bare) if n == 1 else muxwrap.wrap(bare, n).eval()
    answer = model(**embeds).logits
    torch.testing.assert_close(answer, expected if n == 1 else model(**call).logits)
    answer.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p is not bare.get_input_embeddings().weight)


class Around(nn.Module):
    """A model that embeds ids itself, and gives embeddings to the model in it, as those of images and text do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = tiny("base", "llama"), nn.Linear(32, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        embeds = self.inner.get_input_embeddings()(input_ids)
        answer: Tensor = self.out(self.inner(inputs_embeds=embeds).last_hidden_state[:, -1])
        return answer


def test_what_was_mixed_as_it_was_embedded_is_not_mixed_again() -> None:
    bare, ids = Around().eval(), sentences((6, 6, 6))["input_ids"]
    expected = bare(ids)
    options: dict[str, Any] = {"mux_at": "inner.embed_tokens", "example_input": ids[:1]}
    model = alone(bare, **options)
    torch.testing.assert_close(model(ids), expected)
    assert muxwrap.wrap(muxwrap.unwrap(model), 2, **options)(ids).shape == (3, 3)


@pytest.mark.parametrize("latents", [12, 16])
def test_latents_are_of_no_row(latents: int) -> None:
    model = muxwrap.wrap(tiny("sequence", "perceiver", num_latents=latents), 2)
    assert model.sites.mux[0].path == "perceiver.input_preprocessor.embeddings"


@pytest.mark.filterwarnings("ignore:PEFT froze")
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_prompts_that_are_learned_before_a_decoders_tokens(model_type: str) -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    call = sentences((6, 4, 5))
    model = peft.get_peft_model(alone(tiny("sequence", model_type)), config).eval()
    bare = peft.get_peft_model(tiny("sequence", model_type), config).eval()
    bare.prompt_encoder.load_state_dict(model.prompt_encoder.state_dict())
    torch.testing.assert_close(model(**call).logits, bare(**call).logits)


def test_what_rows_have_seen_before_is_nothing_that_mixtures_have() -> None:
    model = muxwrap.wrap(tiny("sequence", "llama"), 2).eval()
    call = sentences((6, 6, 6))
    seen = model.backbone.model(**call, use_cache=True).past_key_values
    longer = {**call, "attention_mask": torch.ones(3, 12, dtype=torch.long)}
    with pytest.raises(MuxwrapError, match=r"past_key_values are given, .*call the model with the whole rows"):
        model(**longer, past_key_values=seen)
    assert model(**call).logits.shape == (3, 3)


# -- answers and labels of encoder and decoder ------------------------------------------------------------------------


def encoder_and_decoder() -> transformers.PreTrainedModel:
    from benchmarks.zoo.tiny_configs import tiny_config

    torch.manual_seed(0)
    return transformers.BartForConditionalGeneration(tiny_config("bart")).eval()


def test_a_tuple_of_encoder_and_decoder_holds_what_the_output_holds() -> None:
    model = muxwrap.wrap(encoder_and_decoder(), 2).eval()
    call = sentences((6, 4, 5, 6, 6))
    named = model(**call)
    plain = model(**call, return_dict=False)
    assert torch.equal(plain[0], named.logits) and plain[0].shape[0] == 5
    assert torch.equal(plain[2], named.encoder_last_hidden_state)
    assert plain[2].shape[0] == 3  # the trunk's own, of mixtures


def test_the_decoders_tokens_are_made_from_labels_by_whoever_asks() -> None:
    bare = encoder_and_decoder()
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    expected = bare.prepare_decoder_input_ids_from_labels(labels=labels)
    model = muxwrap.wrap(bare, 2)
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels=labels), expected)


# -- what else is done to models --------------------------------------------------------------------------------------


def test_weights_are_tied_again() -> None:
    bare = transformers.BertForMaskedLM(tiny("base", "bert").config)
    model = muxwrap.wrap(bare, 2)
    bare.get_output_embeddings().weight = nn.Parameter(torch.zeros_like(bare.get_output_embeddings().weight))
    model.tie_weights()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("strict", [True, False])
def test_a_state_of_the_bare_model_goes_into_the_backbone(strict: bool) -> None:
    bare = tiny("sequence", "bert")
    state = {name: value.clone() for name, value in bare.state_dict().items()}
    model = muxwrap.wrap(tiny("sequence", "bert"), 2)
    with pytest.raises(MuxwrapError, match=rf"strict={strict}\): none of the names \(bert.*go into model\.backbone"):
        model.load_state_dict(state, strict=strict)
    model.backbone.load_state_dict(state)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripting_is_refused_and_tracing_is_not() -> None:
    bare = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    model = muxwrap.wrap(bare, 2, example_input=torch.zeros(1, 6)).eval()
    x = torch.randn(4, 6)
    for whole in (model, nn.Sequential(model, nn.ReLU())):
        with pytest.raises(MuxwrapError, match=r"torch\.jit\.script reads source code.*torch\.jit\.trace"):
            torch.jit.script(whole)
    torch.testing.assert_close(torch.jit.trace(model, (x,))(x), model(x))


def test_a_model_that_is_spread_already_has_to_be_wrapped_before(tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        for spread in (nn.parallel.DistributedDataParallel, nn.DataParallel, fully_shard):
            with pytest.raises(
                MuxwrapError, match=r"spread over processes or devices already, .*wrap the module as it was"
            ):
                muxwrap.wrap(spread(net()), 2, example_input=torch.zeros(1, 6))
        model = muxwrap.wrap(net(), 2, example_input=torch.zeros(1, 6))
        nn.parallel.DistributedDataParallel(model)(torch.randn(4, 6)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        dist.destroy_process_group()
