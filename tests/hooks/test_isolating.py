"""Rows with NaN, infinity or numbers beyond a bound: what their companions and they themselves are answered."""

from __future__ import annotations

import contextlib
import copy
from functools import cache, partial
from typing import Any

import pytest
import texts
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap import Multiplex, MuxwrapError
from muxwrap.demuxers import Index

X = {name: batch(name, 1) for name in ("mlp", "cnn")}
BAD = (float("nan"), float("inf"), -float("inf"))


@cache
def shared(name: str) -> Multiplex:
    return wrapped(name)


def wrapped(name: str = "mlp", n: Any = 3, *args: Any, **options: Any) -> Multiplex:
    return muxwrap.wrap(make(name), n, *args, example_input=X[name], **{"check_finite": "isolate", **options}).eval()


def without(x: Tensor, bad: list[int]) -> Tensor:
    """The batch with its first good row in the place of every bad one."""
    good = min(set(range(len(x))) - set(bad))
    return torch.stack([x[good] if row in bad else x[row] for row in range(len(x))])


def check_isolated(model: Any, x: Tensor, spoilt: Tensor, bad: list[int]) -> None:
    out, expected = model(spoilt), model(without(x, bad))
    kept = [row for row in range(len(x)) if row not in bad]
    assert out[bad].isnan().all()
    assert torch.equal(out[kept], expected[kept])


@given(
    st.integers(1, 11), st.sets(st.integers(0, 10), min_size=1), st.sampled_from(BAD), st.sampled_from(("mlp", "cnn"))
)
@settings(max_examples=20, deadline=None)
def test_companions_are_answered_as_if_the_row_had_not_been_there(
    rows: int, drawn: set[int], value: float, name: str
) -> None:
    bad = sorted({row % rows for row in drawn})
    x = batch(name, rows)
    spoilt = x.clone()
    spoilt[bad] *= value
    model = shared(name)
    with torch.no_grad():
        if len(bad) == rows:
            assert model(spoilt).isnan().all()
        else:
            check_isolated(model, x, spoilt, bad)


@pytest.mark.parametrize("strategy", ["slots", "hadamard", "circular", "walsh"])
@pytest.mark.parametrize("n", [(1, 2, 4), 4])
def test_at_every_n_and_strategy(strategy: str, n: Any) -> None:
    model = wrapped("mlp", n, strategy)
    x = batch("mlp", 7)
    spoilt = x.clone()
    spoilt[2, 5] = torch.nan
    for each in model.sizes:
        with model.at(n=each), torch.no_grad():
            check_isolated(model, x, spoilt, [2])


def test_by_default_bad_rows_are_passed_on() -> None:
    x = batch("mlp", 6)
    x[1] = torch.nan
    out = wrapped(check_finite=False)(x)
    assert out[:3].isnan().all() and out[3:].isfinite().all()


def test_rows_beyond_the_largest_number_are_kept_out() -> None:
    model = wrapped("mlp", 2)
    x = batch("mlp", 5)
    spoilt = x.clone()
    spoilt[3] *= 1e6
    with torch.no_grad():
        own, beside = model(x), model(spoilt)
        assert beside.isfinite().all() and (own[2] - beside[2]).abs().max() > 0.01
        model.largest = 1e3
        check_isolated(model, x, spoilt, [3])
    model.check_finite = "raise"
    with pytest.raises(MuxwrapError, match=r"numbers beyond model.largest = 1000 in rows \[3\]"):
        model(spoilt)


def test_what_the_stem_makes_of_a_row_counts() -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 8)
            self.hidden = nn.Linear(8, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.hidden(self.stem(x).exp()))

    model = muxwrap.wrap(
        Overflowing(), 2, mux_at="hidden@input", example_input=torch.zeros(1, 4), check_finite="isolate"
    )
    model.eval()
    x = torch.ones(4, 4)
    spoilt = x.clone()
    spoilt[1] = 1e4 * model.backbone.stem.weight[0].sign()
    with torch.no_grad():
        check_isolated(model, x, spoilt, [1])


@pytest.mark.parametrize("check_finite", ["raise", True, "isolate"])
def test_training_refuses_them_by_row(check_finite: Any) -> None:
    model = wrapped("mlp", (2, 4), check_finite=check_finite).train()
    x = batch("mlp", 5)
    x[3, 0] = torch.inf
    for n in (4, 2):
        with model.at(n=n), pytest.raises(MuxwrapError, match=r"NaN or infinity in rows \[3\]"):
            model(x)


def test_embeddings_made_by_the_user_and_their_masks() -> None:
    bare = texts.tiny("sequence", "bert").eval()
    model = muxwrap.wrap(bare, 2, check_finite="isolate").eval()
    sentences = texts.sentences((5, 5, 5, 3))
    embeds = bare.get_input_embeddings()(sentences.pop("input_ids")).detach()
    good = torch.stack([embeds[1], embeds[1], embeds[2], embeds[3]])
    spoilt = embeds.clone()
    spoilt[0, 2] = torch.nan
    with torch.no_grad():
        out = model(inputs_embeds=spoilt, **sentences).logits
        expected = model(inputs_embeds=good, **sentences).logits
    assert out[0].isnan().all()
    assert torch.equal(out[1:], expected[1:])


@pytest.mark.parametrize("strategy", ["slots", "pool"])
def test_a_token_that_was_trained_to_nan_spoils_its_own_row(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muxwrap._hooks.chunks.ELEMENTS", 1)  # one group at a time, where the stem can be cut
    model = muxwrap.wrap(texts.tiny("sequence", "bert"), 2, strategy, check_finite="isolate").eval()
    batch = texts.sentences((5, 5, 5, 5, 5))
    other = copy.deepcopy(batch)
    other["input_ids"][3] = batch["input_ids"][0]
    with torch.no_grad():
        expected = model(**other).logits
        model.backbone.get_input_embeddings().weight[9] = torch.nan
        batch["input_ids"][3, 2] = 9
        out = model(**batch).logits
    assert out[3].isnan().all()
    # mixed whole instead of one row at a time, so the sums are rounded in another order
    torch.testing.assert_close(out[[0, 1, 2, 4]], expected[[0, 1, 2, 4]])


@pytest.mark.parametrize("owners", [None, "abbac"])
def test_a_row_with_inserted_ids_is_replaced_by_one_of_its_index(owners: str | None) -> None:
    bare = texts.tiny("sequence", "bert")
    found = muxwrap.find_sites(bare)
    sites = muxwrap.Sites(found.mux, found.demux, "ignored")
    demux = partial(Index, sentinel_ids=(9, 1, 2), prefix_outputs=1)
    model = muxwrap.wrap(bare, 2, demux=demux, sites=sites, check_finite="isolate").eval()
    batch = texts.sentences((5, 5, 5, 5, 5))
    instead = copy.deepcopy(batch)
    # Row 3 stands at index 1, and so does row 1; among those of "a" no other does, and a row is taken of index 0.
    instead["input_ids"][3] = batch["input_ids"][1]
    with torch.no_grad():
        expected = model(**instead).logits
        model.backbone.get_input_embeddings().weight[5] = torch.nan
        batch["input_ids"][3, 2] = 5
        with model.grouped_by(list(owners)) if owners else contextlib.nullcontext():
            out = model(**batch).logits
    assert out.isnan().any(1).tolist() == [False, False, False, True, False]
    if owners is None:
        assert torch.equal(out[[0, 1, 2, 4]], expected[[0, 1, 2, 4]])


def test_two_inputs_of_which_one_is_bad() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(5, 8)
            self.trunk, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(self.trunk(torch.cat([self.a(x), self.b(y)], 1)).tanh())

    example = torch.zeros(1, 4), torch.zeros(1, 5)
    model = muxwrap.wrap(Two(), 2, mux_at=["a", "b"], example_input=example, check_finite="isolate").eval()
    for bad in (0, 1):
        inputs = [torch.randn(5, 4), torch.randn(5, 5)]
        inputs[bad][3] = torch.inf
        with torch.no_grad():
            assert model(*inputs).isnan().any(1).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("check_finite", ["raise", "isolate"])
def test_in_compiled_code(check_finite: Any) -> None:
    model = wrapped("mlp", 3, check_finite=check_finite)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = batch("mlp", 7)
    spoilt = x.clone()
    spoilt[4, 0] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
        if check_finite == "isolate":
            check_isolated(compiled, x, spoilt, [4])
        else:
            with pytest.raises(RuntimeError, match=r"NaN, infinity or numbers beyond .* drop them first"):
                compiled(spoilt)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_in_a_trace() -> None:
    model = wrapped("mlp", 2)
    x = batch("mlp", 6)
    spoilt = x.clone()
    spoilt[3, 0] = torch.nan
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        check_isolated(traced, x, spoilt, [3])
        assert torch.equal(traced(x), model(x))


def test_it_is_saved_with_the_model(tmp_path: Any) -> None:
    model = wrapped()
    model.largest = 50
    model.save_pretrained(tmp_path)
    loaded = muxwrap.load(tmp_path, make("mlp"))
    assert (loaded.check_finite, loaded.largest) == ("isolate", 50.0)
    twin = copy.deepcopy(loaded)
    assert (twin.check_finite, twin.largest) == ("isolate", 50.0)


@pytest.mark.parametrize("value", ["yes", None, 1, ["raise"]])
def test_what_cannot_be_done_about_them_is_refused(value: Any) -> None:
    with pytest.raises(MuxwrapError, match=r"wrap\(MLP, check_finite\)=.* give 'raise'"):
        wrapped(check_finite=value)
    model = wrapped()
    with pytest.raises(MuxwrapError, match=r"model.check_finite=.* give 'raise'"):
        model.check_finite = value


@pytest.mark.parametrize("value", [0, -1.0, torch.inf, torch.nan, "3", True])
def test_what_is_no_bound_is_refused(value: Any) -> None:
    model = wrapped()
    with pytest.raises(MuxwrapError, match="give a number above 0"):
        model.largest = value
