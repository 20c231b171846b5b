"""Tokens pooled between the layers of a trunk: what comes back is what the bare model says of fewer tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from helpers import numbers
from texts import sentences, tiny
from torch import Tensor
from torch.testing import assert_close

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import Pool

FAMILIES = ["bert", "roberta", "distilbert", "electra", "mpnet", "modernbert"]
LENGTHS = (9, 5, 7, 3, 12)


def double(model: Any) -> Any:
    return model.double().eval()


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


class TestMeans:
    """The mixture itself."""

    def test_neighbours_are_averaged_and_the_first_token_stays(self) -> None:
        x = numbers(0, 2, 3, 8, 5)
        mixture = Pool(3, 5)(x)
        assert mixture.shape == (2, 3 * 4, 5) and Pool(3, 5).length(8) == 12
        for i in range(3):
            own = mixture[:, 4 * i : 4 * i + 4]
            expected = [x[:, i, 0], x[:, i, 1:4].mean(1), x[:, i, 4:7].mean(1), x[:, i, 7]]
            assert_close(own, torch.stack(expected, 1))

    def test_padding_is_in_no_mean_and_takes_no_place(self) -> None:
        x, mask = numbers(0, 1, 2, 6, 4), torch.tensor([[[1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0]]])
        mixture = Pool(2, 4)(x, mask)
        expected = [x[0, 0, 0], x[0, 0, [1, 3]].mean(0), x[0, 0, 4], x[0, 1, 0], x[0, 1, 1:3].mean(0)]
        assert_close(mixture[0], torch.stack(expected))

    def test_nothing_is_pooled_across_a_separator(self) -> None:
        x, ids = numbers(0, 1, 1, 8, 4), torch.tensor([[[1, 5, 6, 7, 2, 8, 9, 2]]])
        pool = Pool(2, 4, separators=(2,))
        pool.n = 2
        places = pool.place(x.expand(-1, 2, -1, -1), ids=ids.expand(-1, 2, -1))
        assert places.at[0, 0].tolist() == [0, 1, 1, 2, 3, 4, 4, 5]

    def test_patches_are_pooled_in_windows(self) -> None:
        x = numbers(0, 1, 4, 1 + 4 * 6, 3)
        mixture = Pool(4, 3, grid=(4, 6))(x).unflatten(1, (4, -1))
        image = x[:, :, 1:].unflatten(2, (4, 6)).movedim(-1, 2).flatten(0, 1)
        means = torch.nn.functional.avg_pool2d(image, 2).flatten(2).transpose(1, 2)
        assert_close(mixture[0, :, 1:], means)
        assert_close(mixture[0, :, 0], x[0, :, 0])

    def test_another_image_than_the_grid_says(self) -> None:
        with pytest.raises(MuxwrapError, match=r"is for 25 tokens and got 30"):
            Pool(4, 3, grid=(4, 6))(numbers(0, 1, 4, 30, 3))


@pytest.mark.parametrize("family", FAMILIES)
class TestTrunks:
    """Laws of a multiplexed trunk, in every family of text models that gives its layers masks."""

    def test_one_instance_of_one_token_a_mean_is_the_bare_model(self, family: str) -> None:
        bare, batch = double(tiny("sequence", family)), sentences(LENGTHS)
        expected = logits(bare, batch)
        assert_close(logits(muxwrap.wrap(bare, 1, "pool"), batch), expected)

    def test_an_answer_does_not_depend_on_the_companions(self, family: str) -> None:
        bare, batch = double(tiny("token", family)), sentences(LENGTHS)
        model = muxwrap.wrap(bare, 3, "pool")
        together = logits(model, batch)
        for row, length in enumerate(LENGTHS):
            alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
            assert_close(logits(model, alone)[0], together[row, :length], atol=1e-6, rtol=1e-6)


def test_equal_tokens_are_answered_as_before() -> None:
    for task in ("sequence", "token"):
        bare = double(tiny(task, "bert"))
        with torch.no_grad():  # without positions the words of one kind are equal
            bare.bert.embeddings.position_embeddings.weight.zero_()
        ids = torch.full((5, 11), 12)
        ids[:, 0] = torch.arange(5)
        ids[2:, 1:] = 17
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batch["attention_mask"][3, 6:] = 0
        expected, real = logits(bare, batch), batch["attention_mask"].bool()
        for n in (2, 4):
            model = muxwrap.wrap(bare, n, "pool", mux_at="bert.encoder.layer.0@input")
            mixed = logits(model, batch)
            muxwrap.unwrap(model)
            assert_close(*((x if task == "sequence" else x[real]) for x in (mixed, expected)))
        plain = muxwrap.wrap(bare, 4, partial(Pool, proportional=False), mux_at="bert.encoder.layer.0@input")
        assert not torch.allclose(logits(plain, batch)[0], expected[0], atol=1e-4)


def test_instances_that_are_not_isolated_meet() -> None:
    bare, batch = double(tiny("sequence", "bert")), sentences(LENGTHS)
    model = muxwrap.wrap(bare, 3, partial(Pool, isolated=False))
    alone = {name: value[:1, : LENGTHS[0]] for name, value in batch.items()}
    assert not torch.allclose(logits(model, batch)[:1], logits(model, alone), atol=1e-3)
