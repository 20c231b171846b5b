"""Contextual mixing: its arithmetic, and what it does with padding; settings of the published models beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from nets import batch as net_batch
from nets import make
from texts import sentences, tiny
from torch import Tensor
from torch.testing import assert_close

import muxwrap
from muxwrap import MuxwrapError
from muxwrap.demuxers import MLP, Index, Key
from muxwrap.demuxers.sentinel_ids import prepend
from muxwrap.strategies import Binary, Contextual, Hadamard

LENGTHS = (4, 9, 7, 9, 3)


def attention(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    """A transformer layer in plain terms: one head, norm behind each half; ``[b, L, dim]``, ``[b, L]``."""
    q, k, v = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, -1)
    logits = (q @ k.transpose(1, 2) / x.shape[-1] ** 0.5).masked_fill(mask[:, None] == 0, -1e9)
    x = layer.norm1(x + layer.self_attn.out_proj(logits.softmax(-1) @ v))
    return layer.norm2(x + layer.linear2(torch.nn.functional.gelu(layer.linear1(x))))


@pytest.mark.parametrize("padding", ["out", "mixed", "attended"])
@pytest.mark.parametrize("training", [False, True])
def test_arithmetic(padding: str, training: bool) -> None:
    strategy = Contextual(3, 8, heads=1, hidden=12, padding=padding, seed=2).train(training)
    rng = torch.Generator().manual_seed(0)
    x, mask = torch.randn(2, 3, 5, 8, generator=rng), torch.ones(2, 3, 5, dtype=torch.long)
    mask[0, 1, 3:] = mask[1, :, 4] = mask[1, 2] = 0  # a padded end, a position and an instance of nothing but padding
    with torch.no_grad():
        kept = torch.where(mask.any(2, keepdim=True), mask, 1).flatten(0, 1)
        bound = (x + attention(strategy.within, x.flatten(0, 1), kept).view_as(x)) * strategy.keys[:, None]
        across = torch.ones_like(mask) if padding == "attended" else torch.where(mask.any(1, keepdim=True), mask, 1)
        seen = attention(strategy.across, bound.transpose(1, 2).flatten(0, 1), across.transpose(1, 2).flatten(0, 1))
        total = bound + seen.view(2, 5, 3, 8).transpose(1, 2)
        expected = (total * mask[..., None] if padding == "out" else total).sum(1) / 3**0.5
        assert_close(strategy(x, mask), expected, atol=1e-5, rtol=1e-5)
        assert_close(strategy(x), strategy(x, torch.ones_like(mask)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "modernbert", "gpt2", "llama"])
@pytest.mark.parametrize("demux", ["mlp", "index"])
def test_what_stands_at_padding_changes_no_answer(model_type: str, demux: str) -> None:
    with torch.random.fork_rng(devices=[]):
        model = muxwrap.wrap(tiny("token", model_type), 2, "contextual", demux)
    rows = [sentences(LENGTHS, padding) for padding in (7, 9)]
    read = rows[0]["attention_mask"].bool()
    for grad in (False, True):  # without gradients a stem runs piece by piece
        with torch.set_grad_enabled(grad):
            one, other = (model(**row).logits[read] for row in rows)
        assert_close(one, other)
    with torch.no_grad():
        wider = {name: torch.nn.functional.pad(value, (0, 3), value=0) for name, value in rows[0].items()}
        assert_close(model(**wider).logits[:, :9][read], one, atol=1e-5, rtol=1e-5)


def test_a_long_batch_is_mixed_piece_by_piece_with_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        model = muxwrap.wrap(tiny("token", "bert"), 2, "contextual")
    rows = sentences((4, 9, 7, 9, 3, 8, 2))
    with torch.no_grad():
        whole = model(**rows).logits
        monkeypatch.setattr("muxwrap._hooks.chunks.ELEMENTS", 700)  # two rows at a time
        calls: list[int] = []
        model.strategy.register_forward_hook(lambda _m, args, _out: calls.append(len(args[0])))
        assert_close(model(**rows).logits, whole)
    assert calls == [1, 1, 1, 1]


def test_trains_and_comes_back(tmp_path: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        model = muxwrap.wrap(tiny("sequence", "bert"), 2, partial(Contextual, hidden=20, norm=3.0)).train()
        model(**sentences(LENGTHS), labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.strategy.parameters())
        model.eval().save_pretrained(tmp_path)
        again = muxwrap.load(tmp_path, tiny("sequence", "bert")).eval()
    with torch.no_grad():
        assert torch.equal(again(**sentences(LENGTHS)).logits, model(**sentences(LENGTHS)).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learnable": False}, r"contextual\(learnable=False\): its layers have to be trained"),
        ({"padding": "mix"}, r"padding='mix'\) is unknown; did you mean 'mixed'"),
        ({"heads": 3}, r"heads=3.*heads divide dim"),
        ({"heads": 0}, r"heads=0.*heads divide dim"),
        ({"hidden": 0}, r"hidden=0"),
        ({"norm": -1.0}, r"norm=-1.0"),
    ],
)
def test_contextual_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        Contextual(2, 8, **options)


def test_contextual_needs_tokens() -> None:
    with pytest.raises(MuxwrapError, match=r"Contextual mixes tokens \[L, d\], and .* which are not tokens"):
        muxwrap.wrap(make("mlp"), 2, "contextual", example_input=net_batch("mlp", 1))
    with pytest.raises(MuxwrapError, match=r"Concat mixes tokens \[L, d\] without a mask, and .* with a mask"):
        muxwrap.wrap(tiny("token", "bert"), 2, "concat")


# -- settings of the published models ---------------------------------------------------------------------------------


def test_a_module_that_is_run_twice() -> None:
    with torch.random.fork_rng(devices=[]):
        bare = tiny("token", "bert")
    sites = muxwrap.find_sites(bare)
    twice = replace(sites, mux=tuple(replace(site, twice=True) for site in sites.mux))
    model = muxwrap.wrap(bare, 2, "sign", sites=twice)
    assert "twice" in str(model.sites.mux[0])
    ids = sentences((9, 9))["input_ids"]
    with torch.no_grad():
        mixture = model.strategy(bare.bert.embeddings(ids)[None])
        hidden = bare.bert(inputs_embeds=mixture).last_hidden_state  # which embeds what it is given once more
        assert_close(model(ids).logits, bare.classifier(model.demuxer(hidden)[0]))


def test_a_module_that_cannot_run_twice() -> None:
    bare = make("tagger")
    sites = muxwrap.find_sites(bare, net_batch("tagger", 1))
    twice = replace(sites, mux=tuple(replace(site, twice=True) for site in sites.mux))
    with pytest.raises(
        MuxwrapError, match=r"is not the output of a module that takes inputs_embeds, and cannot be run twice"
    ):
        muxwrap.wrap(bare, 2, sites=twice)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


@pytest.mark.parametrize("demux", [MLP, Key])
@pytest.mark.parametrize("rows", [4, 5])
def test_sentinel_ids_go_with_masks(demux: Any, rows: int) -> None:
    with torch.random.fork_rng(devices=[]):
        bare = tiny("token", "bert")
        changed = muxwrap.wrap(bare, 2, "sign", partial(demux, sentinel_id=101))
        batch = sentences(LENGTHS[:rows])
        first = {**batch, "input_ids": batch["input_ids"].clone()}
        first["input_ids"][:, 0] = 101
        with torch.no_grad():
            answers = changed(**batch).logits
            plain = muxwrap.wrap(muxwrap.unwrap(changed), 2, "sign", demux)
            assert_close(answers, plain(**first).logits)


def test_sentinel_ids() -> None:
    changed = prepend(torch.tensor([[[7, 8], [9, 7]], [[1, 2], [3, 4]]]), (50, 60, 70))
    assert changed.tolist() == [
        [[50, 60, 70, 7, 8], [60, 49, 70, 9, 7]],
        [[50, 60, 70, 1, 2], [60, 49, 70, 3, 4]],
    ]
    with pytest.raises(MuxwrapError, match=r"index\(sentinel_ids=...\) makes instances longer than their masks"):
        muxwrap.wrap(tiny("token", "bert"), 2, demux=partial(Index, sentinel_ids=(50, 60, 70)))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Index(3, 8, sentinel_ids=(1, 5, 6)), r"sentinel_ids=\(1, 5, 6\)\): give the ids"),
        (lambda: Index(3, 8, sentinel_ids=(9, 5)), r"sentinel_ids=\(9, 5\)"),
        (lambda: Index(3, 8, sentinel_ids=9), r"sentinel_ids=9\)"),  # type: ignore[arg-type]
        (lambda: Index(3, 8, prefix_outputs=4), r"prefix_outputs=4\): the prefix has 3 tokens"),
        (lambda: Key(3, 8, sentinel_id=-1), r"key\(sentinel_id=-1\): it is a token id"),
        (lambda: MLP(3, 8, sentinel_id=True), r"mlp\(sentinel_id=True\): it is a token id"),
        (lambda: Key(3, 8, layers=0, inner_norm=True), r"there is no block for the norm to be inside of"),
        (lambda: Binary(3, 9, overlap=(4, 0)), r"reaches into its neighbours only; take 0 <= overlap <= 3"),
    ],
)
def test_settings_refuse(make_it: Any, message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        make_it()


def test_chunks_that_reach_into_both_neighbours() -> None:
    keys = Binary(3, 9, overlap=(2, 1)).keys
    assert [row.nonzero().flatten().tolist() for row in keys] == [[0, 1, 2, 3], [1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]
    assert torch.equal(Binary(3, 9, overlap=(0, 2)).keys, Binary(3, 9, overlap=2).keys)
    assert not Binary(3, 9, overlap=(1, 0)).disjoint and Binary(3, 9, overlap=(0, 0)).disjoint


def test_keys_are_those_of_hadamard() -> None:
    assert torch.equal(Contextual(3, 8, norm=2.0, seed=5).keys, Hadamard(3, 8, norm=2.0, seed=5).keys)
