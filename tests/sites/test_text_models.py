"""Transformers text models: sites, padding, base models, prefixes, mixing among the layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError
from muxwrap.sites.examples import example_of
from muxwrap.sites.trials.trial import Trial

LENGTHS = (4, 9, 7, 9, 3)

# Embeddings and positions together, tokens only, embedded input, two embeddings, no mask of its own, the row axis second.
SORTS = [
    "bert",
    "roberta",
    "distilbert",
    "deberta-v2",
    "modernbert",
    "gpt2",
    "llama",
    "t5",
    "bart",
    "xlnet",
    "layoutlmv3",
]


@pytest.fixture(autouse=True)
def small_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


# -- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", SORTS)
def test_copies_of_an_input_get_the_bare_answers(model_type: str) -> None:
    model = tiny("sequence", model_type)
    assert Trial(model, example_of(model)).check(muxwrap.find_sites(model)).match == "exact"


@pytest.mark.parametrize(
    ("task", "model_type", "mux", "demux"),
    [
        ("sequence", "bert", ["output of bert.embeddings"], "input of bert.pooler (axis -1, dim 32, first token)"),
        ("sequence", "roberta", ["output of roberta.embeddings"], "input of classifier (axis -1, dim 32, first token)"),
        ("sequence", "modernbert", ["output of model.embeddings"], "input of head (axis -1, dim 32)"),
        ("sequence", "llama", ["output of model.embed_tokens"], "input of score (axis -1, dim 32)"),
        ("token", "bert", ["output of bert.embeddings"], "input of dropout (axis -1, dim 32)"),
        ("base", "bert", ["output of embeddings"], "output of encoder (axis -1, dim 32)"),
        ("sequence", "gpt2", ["input of transformer"], "input of score (axis -1, dim 32)"),
        (
            "sequence",
            "bart",
            ["output of model.encoder.embed_tokens", "output of model.decoder.embed_tokens"],
            "output of model.decoder (axis -1, dim 32)",
        ),
    ],
)
def test_sites(task: str, model_type: str, mux: list[str], demux: str) -> None:
    sites = muxwrap.find_sites(tiny(task, model_type))
    assert [str(site) for site in sites.mux] == [f"{site} (axis -1, dim 32)" for site in mux]
    assert [str(site) for site in sites.demux] == [demux]


def test_masks_that_only_fit_by_their_shape_are_refused() -> None:
    # GPT-2 views the mask with the batch's rows: two masks of 12 tokens would pass for three masks of 8.
    sites = muxwrap.find_sites(tiny("token", "gpt2"), {"input_ids": torch.arange(10, 22)[None]})
    assert (sites.mux[0].path, sites.mux[0].side) == ("transformer", "input")


class MeanOfBert(nn.Module):
    """A head that averages the tokens by the mask; its weights start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = tiny("base", "bert")
        self.head = nn.Linear(32, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        hidden = self.bert(input_ids, attention_mask).last_hidden_state
        weights = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.head((hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True))


def test_a_head_outside_gets_the_masks_of_the_rows() -> None:
    bare = MeanOfBert().eval()
    model = muxwrap.wrap(
        bare, 2, example_input={"input_ids": torch.arange(10, 22)[None]}, demux_at="bert.encoder@output"
    )
    nn.init.normal_(bare.head.weight)
    hidden: list[Tensor] = []
    bare.bert.register_forward_hook(lambda _module, _args, output: hidden.append(output.last_hidden_state))
    with torch.no_grad():
        answers = model(**sentences(LENGTHS))
        alone = torch.stack([bare.head(row[:length].mean(0)) for row, length in zip(hidden[0], LENGTHS, strict=True)])
    torch.testing.assert_close(answers, alone)


def test_no_token_is_dropped_that_a_head_of_zeros_reads() -> None:
    model = muxwrap.wrap(MeanOfBert(), 2, example_input={"input_ids": torch.arange(10, 22)[None]})
    assert not model.sites.demux[0].first_token


# -- padding ----------------------------------------------------------------------------------------------------------

PADDED = ["bert", "roberta", "distilbert", "gpt2", "deberta-v2", "modernbert", "electra", "mpnet", "llama"]


@pytest.mark.parametrize("demux", ["mlp", "index"])
@pytest.mark.parametrize("model_type", PADDED)
def test_what_stands_at_padding_changes_no_answer(model_type: str, demux: str) -> None:
    model = muxwrap.wrap(tiny("token", model_type), 2, demux=demux)
    with torch.no_grad():
        one, other = (model(**sentences(LENGTHS, padding)).logits for padding in (7, 9))
    read = sentences(LENGTHS)["attention_mask"].bool()
    torch.testing.assert_close(one[read], other[read])


@pytest.mark.parametrize("model_type", [name for name in PADDED if name not in ("gpt2", "llama")])
def test_padding_and_classes(model_type: str) -> None:
    # GPT-2 and Llama look for the last token that is not pad_token_id, whatever the mask says.
    model = muxwrap.wrap(tiny("sequence", model_type), 2)
    with torch.no_grad():
        one, other = (model(**sentences(LENGTHS, padding)).logits for padding in (7, 9))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("model_type", PADDED)
def test_columns_of_nothing_but_padding_change_no_answer(model_type: str) -> None:
    model = muxwrap.wrap(tiny("token", model_type), 2)
    batch = sentences((4, 6, 5))
    wider = {name: torch.nn.functional.pad(value, (0, 3), value=0) for name, value in batch.items()}
    wider["input_ids"][:, 6:] = 7
    read = batch["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits[read], model(**wider).logits[:, :6][read])


# -- base models ------------------------------------------------------------------------------------------------------

BASES = [*PADDED, "albert", "xlnet", "bart", "t5", "gemma2", "qwen2"]


@pytest.mark.parametrize("model_type", BASES)
def test_base_models_answer_row_by_row(model_type: str) -> None:
    model = muxwrap.wrap(tiny("base", model_type), 2)
    batch = sentences((6, 6, 6))
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = batch["input_ids"]
    with torch.no_grad():
        before = model(**batch)
        batch["input_ids"][1, 2] = 61
        after = model(**batch)
    rows = {name: value for name, value in before.items() if name in ("last_hidden_state", "pooler_output")}
    assert rows["last_hidden_state"].shape == (3, 6, 32)
    for name, value in rows.items():
        assert len(value) == 3
        assert not torch.equal(value[1], after[name][1])
        torch.testing.assert_close(value[2], after[name][2])


# -- prefixes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sequence", "token"])
@pytest.mark.parametrize(
    "model_type", ["bert", "roberta", "distilbert", "electra", "gpt2", "modernbert", "llama", "t5"]
)
def test_prefix(model_type: str, task: str) -> None:
    model = muxwrap.wrap(tiny(task, model_type), 3, demux="index").train()
    batch = sentences(LENGTHS, padding=1)
    ends = model.config.eos_token_id
    if isinstance(ends, int):  # T5's classifier reads the last token of this kind
        batch["input_ids"][torch.arange(5), torch.tensor(LENGTHS) - 1] = ends
    labels = torch.zeros(5, dtype=torch.long) if task == "sequence" else torch.zeros(5, 9, dtype=torch.long)
    output = model(**batch, labels=labels)
    assert output.logits.shape == (*labels.shape, 3)
    output.loss.backward()
    assert model.demuxer.prefix.grad.abs().sum() > 0


def test_prefix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="take a demuxer without a prefix"):
        muxwrap.wrap(tiny("sequence", "reformer"), 2, demux="index")


# -- mixing among the layers ------------------------------------------------------------------------------------------

LAYERS = {
    "bert": "bert.encoder.layer.0",
    "distilbert": "distilbert.transformer.layer.0",
    "deberta-v2": "deberta.encoder.layer.0",
    "modernbert": "model.layers.0",
    "gpt2": "transformer.h.0",
    "llama": "model.layers.0",
}


@pytest.mark.parametrize(("model_type", "layer"), LAYERS.items())
def test_mixing_after_a_layer(model_type: str, layer: str) -> None:
    bare = tiny("token", model_type)
    model = muxwrap.wrap(bare, 2, mux_at=layer)
    assert model.sites.mask == "inside"
    assert Trial(bare, example_of(bare)).check(model.sites).match == "exact"
    with torch.no_grad():
        one, other = (model(**sentences(LENGTHS, padding)).logits for padding in (7, 9))
    read = sentences(LENGTHS)["attention_mask"].bool()
    torch.testing.assert_close(one[read], other[read])


# -- what else belongs to rows ----------------------------------------------------------------------------------------


def test_types_of_every_row_reach_its_embeddings() -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 2)
    batch = sentences((6, 6, 6))
    types = torch.zeros(3, 6, dtype=torch.long)
    types[1, 3:] = 1
    with torch.no_grad():
        plain, typed = model(**batch).logits, model(**batch, token_type_ids=types).logits
    assert not torch.equal(plain[1], typed[1])
    torch.testing.assert_close(plain[2], typed[2])


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("demux", ["mlp", "index"])
def test_positions_may_be_given(model_type: str, demux: str) -> None:
    model = muxwrap.wrap(tiny("token", model_type), 2, demux=demux)
    batch = sentences((6, 6, 6))
    positions = torch.arange(6).expand(3, -1)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, model(**batch, position_ids=positions).logits)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_positions_that_begin_again(model_type: str) -> None:
    """Several documents in a row: they begin at the same tokens in the rows of a mixture, or the call is refused."""
    model = muxwrap.wrap(tiny("sequence", model_type), 2)
    ids = sentences((6, 6, 6, 6))["input_ids"]
    begins = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 2, 3], [0, 1, 0, 1, 2, 3]])
    with torch.no_grad():
        assert model(input_ids=ids, position_ids=begins).logits.shape[0] == 4
        with pytest.raises(MuxwrapError, match=r"position_ids \[4, 6\] begin again.*give one document per row"):
            model(input_ids=ids, position_ids=begins[[0, 2, 1, 3]])


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_of_padding_do_not_matter(side: str) -> None:
    model = muxwrap.wrap(tiny("sequence", "llama"), 2)
    ids = sentences((6, 6, 6))["input_ids"]
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    mask = mask if side == "left" else mask.flip(1)
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    with torch.no_grad():
        assert model(input_ids=ids, attention_mask=mask, position_ids=positions).logits.shape[0] == 3


@pytest.mark.parametrize("model_type", ["layoutlm", "lilt", "layoutlmv3"])
def test_boxes(model_type: str) -> None:
    model = muxwrap.wrap(tiny("token", model_type), 2)
    boxes = torch.arange(3 * 6).view(3, 6, 1).expand(-1, -1, 4)
    batch = sentences((6, 6, 6))
    with torch.no_grad():
        answers = model(**batch, bbox=boxes).logits
        moved = model(**batch, bbox=torch.cat([boxes[:1] + 20, boxes[1:]])).logits
    assert answers.shape == (3, 6, 3) and not torch.equal(answers[0], moved[0])
