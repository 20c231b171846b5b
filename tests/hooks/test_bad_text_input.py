"""Bad text input: a clear refusal, or a right answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from texts import sentences, tiny
from torch import Tensor

import muxwrap
from muxwrap import MuxwrapError

LENGTHS = (6, 4, 5)
MODELS = ["bert", "roberta", "gpt2", "llama", "modernbert"]
DEMUXERS = ["mlp", "index"]


@pytest.fixture(scope="module", params=[(name, demux) for name in MODELS for demux in DEMUXERS], ids="-".join)
def tagger(request: pytest.FixtureRequest) -> muxwrap.Multiplex:
    return wrapped("token", *request.param)


def wrapped(task: str, name: str, demux: str, **fields: Any) -> muxwrap.Multiplex:
    with torch.random.fork_rng(devices=[]):
        return muxwrap.wrap(tiny(task, name, **fields), 2, demux=demux).eval()


def refused(model: muxwrap.Multiplex, message: str, **call: Any) -> None:
    with torch.no_grad(), pytest.raises(MuxwrapError, match=message):
        model(**call)
    with torch.no_grad():
        assert model(**sentences(LENGTHS)).logits.isfinite().all()  # and the next call is answered


def labels(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.long)


def test_labels_for_other_rows(tagger: muxwrap.Multiplex) -> None:
    refused(tagger, r"labels are \[2, 6\] for input_ids \[3, 6\]; every row", **sentences(LENGTHS), labels=labels(2, 6))


@pytest.mark.parametrize("length", [5, 8])
def test_labels_for_other_tokens(tagger: muxwrap.Multiplex, length: int) -> None:
    message = rf"labels are \[3, {length}\] for input_ids \[3, 6\]; every token needs a label"
    refused(tagger, message, **sentences(LENGTHS), labels=labels(3, length))


@pytest.mark.parametrize("name", MODELS)
def test_labels_of_sentences_for_other_rows(name: str) -> None:
    model = wrapped("sequence", name, "mlp")
    with pytest.raises(MuxwrapError, match=r"labels are \[4\] for input_ids \[3, 6\]; every row needs its labels"):
        model(**sentences(LENGTHS, padding=1), labels=labels(4))


@pytest.mark.parametrize("bad", [-1, 320, 5000])
def test_ids_outside_the_vocabulary(tagger: muxwrap.Multiplex, bad: int) -> None:
    batch = sentences(LENGTHS)
    batch["input_ids"][1, 2] = bad
    refused(tagger, rf"input_ids holds {bad} in row 1; the vocabulary has the ids 0 to 319", **batch)


@pytest.mark.parametrize(("shape", "shown"), [((3, 0), r"\[3, 0\]"), ((0, 6), r"\[0, 6\]")])
def test_nothing_to_mix(tagger: muxwrap.Multiplex, shape: tuple[int, int], shown: str) -> None:
    refused(tagger, rf"input_ids is {shown}: there is nothing to mix", input_ids=labels(*shape))


@pytest.mark.parametrize(("name", "most"), [("bert", 16), ("roberta", 14), ("gpt2", 16), ("distilbert", 16)])
@pytest.mark.parametrize("demux", DEMUXERS)
def test_more_tokens_than_positions(name: str, most: int, demux: str) -> None:
    # Where positions are added behind the mixing, the prefix needs some, too; that decides how many tokens fit.
    model = wrapped("token", name, demux, max_position_embeddings=20)
    fits = most + 4 if name != "gpt2" or demux == "mlp" else most + 2
    ids = torch.randint(10, 60, (3, fits + 1), generator=torch.Generator().manual_seed(0))
    assert model(input_ids=ids[:, :fits]).logits.shape == (3, fits, 3)
    prefix = rf" and a prefix of 2 makes them {fits + 3}" if fits == most + 2 else ""
    refused(
        model,
        rf"input_ids holds {fits + 1} tokens{prefix}, and the model has positions for {most + 4}; cut",
        input_ids=ids,
    )


def test_a_row_of_nothing_but_padding(tagger: muxwrap.Multiplex) -> None:
    batch = sentences((6, 4, 5, 6))
    batch["attention_mask"][1] = 0
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][1] = 11
    with torch.no_grad():
        one, two = tagger(**batch).logits, tagger(**other).logits
    assert one.isfinite().all()
    torch.testing.assert_close(one[[0, 2, 3]], two[[0, 2, 3]])  # nothing of it is in the mixture


def test_a_group_of_nothing_but_padding(tagger: muxwrap.Multiplex) -> None:
    batch = sentences((6, 4, 5, 6))
    batch["attention_mask"][:2] = 0
    with torch.no_grad():
        padded, alone = tagger(**batch).logits, tagger(**{name: value[2:] for name, value in batch.items()}).logits
    assert padded.isfinite().all()
    torch.testing.assert_close(padded[2:], alone)


def test_the_backbones_own_error_is_kept_where_nothing_else_is_known() -> None:
    model = wrapped("sequence", "bert", "mlp")
    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        model(**sentences(LENGTHS), labels=torch.tensor([0, 7, 1]))
