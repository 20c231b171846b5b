"""Tokens pooled in stages: between later layers the trunk goes on with fewer tokens once more."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers import numbers
from texts import sentences, tiny
from torch import Tensor
from torch.testing import assert_close

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import Pool

AGAIN = partial(Pool, again=((1, 2),))
LENGTHS = (9, 5, 7, 3, 12)


def bert(task: str = "sequence") -> Any:
    return tiny(task, "bert", num_hidden_layers=4).double().eval()


def wrap(model: Any, n: Any, strategy: Any = AGAIN) -> muxwrap.Multiplex:
    return muxwrap.wrap(model, n, strategy, mux_at="bert.encoder.layer.0").eval()


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def test_a_later_layer_gets_the_means_and_their_sizes() -> None:
    model, n = bert(), 2
    batch = sentences((9, 9))
    with torch.no_grad():
        bare = model.bert
        h = bare.encoder.layer[0](bare.embeddings(batch["input_ids"]))
        # Tokens are held as 1 | 2 2 2 2, and from the third layer on as 1 | 4 4.
        for layers, size in ((slice(1, 2), 2), (slice(2, 4), 2)):
            h = torch.cat([h[:, :1], h[:, 1:].unflatten(1, (-1, size)).mean(2)], 1)
            counts = torch.tensor([1.0] + [8.0 / (h.shape[1] - 1)] * (h.shape[1] - 1), dtype=h.dtype)
            for layer in bare.encoder.layer[layers]:
                h = layer(h, counts.log().expand(2, 1, 1, -1))
        expected = model.classifier(bare.pooler(h))
    assert_close(logits(wrap(model, n), batch), expected)


def test_a_mean_that_holds_more_tokens_counts_more() -> None:
    pool = Pool(2, 3, keep=0, again=((1, 3),))
    x = numbers(0, 1, 2, 7, 3)
    first, second = pool.place(x), pool.place(x, times=3)
    assert second.at[0, 0].tolist() == [0] * 6 + [1]
    assert_close(second.pool(first.spread(first.pool(x))), second.pool(x))


@pytest.mark.parametrize("task", ["sequence", "token"])
def test_an_answer_does_not_depend_on_the_companions(task: str) -> None:
    model, batch = wrap(bert(task), 3), sentences(LENGTHS)
    together = logits(model, batch)
    for row, length in enumerate(LENGTHS):
        alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
        own = together[row] if task == "sequence" else together[row, :length]
        assert_close(logits(model, alone)[0], own, atol=1e-6, rtol=1e-6)


def test_equal_tokens_are_answered_as_before() -> None:
    model = bert("token")
    with torch.no_grad():  # without positions the words of one kind are equal
        model.bert.embeddings.position_embeddings.weight.zero_()
    ids = torch.full((4, 11), 12)
    ids[2:] = 17
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch["attention_mask"][3, 6:] = 0
    expected, real = logits(model, batch), batch["attention_mask"].bool()
    assert_close(logits(wrap(model, 2), batch)[real], expected[real])


def test_an_image_is_pooled_in_larger_windows() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16)
    vit = timm.models.VisionTransformer(16, 4, 1, 5, embed_dim=16, depth=3, num_heads=2).eval()
    model = muxwrap.wrap(vit, 2, AGAIN, mux_at="blocks.0", example_input=images[:1]).eval()
    lengths: list[int] = []
    for block in vit.blocks:
        block.attn.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    with torch.no_grad():
        assert model(images).shape == (4, 5)
    assert lengths == [17, 2 * 9, 2 * 5]


@pytest.mark.parametrize("strategy", ["pool", AGAIN], ids=["once", "again"])
def test_recorded_and_compiled(strategy: Any) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16)
    vit = timm.models.VisionTransformer(16, 4, 1, 5, embed_dim=16, depth=3, num_heads=2).eval()
    model = muxwrap.wrap(vit, (1, 2), strategy, mux_at="blocks.0", example_input=images[:1]).eval()
    for n in model.sizes:
        view = model.fixed(n)
        with torch.no_grad():
            expected = view(images)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch.jit itself, and of what timm checks
                recorded = torch.jit.trace(view, images, check_trace=False)
            assert_close(recorded(images), expected)
            assert_close(torch.compile(view, backend="eager", fullgraph=True)(images), expected)


def test_elastic_n_and_a_saved_model(tmp_path: Path) -> None:
    model, batch = wrap(bert(), (1, 2)), sentences(LENGTHS)
    for n in model.sizes:
        assert_close(logits(model.fixed(n), batch), logits(wrap(bert(), n), batch))
    model.save_pretrained(tmp_path)
    again = muxwrap.load(tmp_path, bert()).eval()
    assert again.strategy.again == ((1, 2),)
    assert_close(logits(again, batch), logits(model, batch))


@pytest.mark.parametrize(
    ("again", "message"),
    [
        (2, r"again=2\): give pairs of layers and neighbours"),
        ((1, 2), r"again=\(1, 2\)\): give pairs"),
        (((0, 2),), r"again=0\): give whole numbers of 1 or more"),
        (((1, 1),), r"again=1\): give whole numbers of 2 or more"),
        (((2, 2), (1, 2)), r"name every layer once, in order"),
    ],
)
def test_refused_options(again: Any, message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        Pool(2, 8, again=again)


def test_stages_behind_the_last_layer_are_refused() -> None:
    with pytest.raises(
        MuxwrapError, match=r"again=\(\(3, 2\),\)\): 3 layers run on mixtures, and after 3 of them none is"
    ):
        wrap(bert(), 2, partial(Pool, again=((3, 2),)))
