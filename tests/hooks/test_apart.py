"""Rows of different owners never share a mixture, and every row is answered in its own place."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import pytest
import texts
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import batch, make
from torch import Tensor
from torch.utils.checkpoint import CheckpointError, checkpoint

import muxwrap
from muxwrap import Multiplex, MuxwrapError

EXAMPLE = batch("mlp", 1)


@cache
def shared(n: Any = 4, **options: Any) -> Multiplex:
    return wrapped(n, **options)


def wrapped(n: Any = 4, **options: Any) -> Multiplex:
    return muxwrap.wrap(make("mlp"), n, example_input=EXAMPLE, **options).eval()


def alone(model: Multiplex, x: Tensor, ids: list[Any]) -> Tensor:
    """The answers to one owner's rows after the other's, put back into their own order."""
    out = torch.empty(len(x), 5)
    for owner in dict.fromkeys(ids):
        rows = [row for row, each in enumerate(ids) if each == owner]
        out[rows] = model(x[rows])
    return out


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=14), st.sampled_from([1, 2, 4]))
@settings(max_examples=25, deadline=None)
def test_answers_are_those_of_each_owners_rows_alone(ids: list[str], n: int) -> None:
    model, x = shared((1, 2, 4)), batch("mlp", len(ids))
    with torch.no_grad(), model.at(n=n), model.grouped_by(ids):
        out = model(x)
    with torch.no_grad(), model.at(n=n):
        torch.testing.assert_close(out, alone(model, x, ids))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=14), st.integers(0, 13))
@settings(max_examples=25, deadline=None)
def test_no_row_moves_the_answer_of_another_owner(ids: list[int], drawn: int) -> None:
    model, x = shared(), batch("mlp", len(ids))
    row = drawn % len(ids)
    moved = x.clone()
    moved[row] += 1
    with torch.no_grad(), model.grouped_by(torch.tensor(ids)):
        changed = (model(x) != model(moved)).any(1)
    assert changed[row]
    assert not any(changed[other] for other, owner in enumerate(ids) if owner != ids[row])


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=11), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_shuffled_rows_keep_to_their_owner(ids: list[str], seed: int) -> None:
    model, x = shared(3, shuffle=True).train(), batch("mlp", len(ids))
    moved = torch.where(torch.tensor([each == "b" for each in ids]).unsqueeze(1), x + 1, x)
    answers = []
    for each in (x, moved):
        torch.manual_seed(seed)
        with model.grouped_by(ids):
            answers.append(model(each))
    same = torch.tensor([each == "a" for each in ids])
    assert torch.equal(answers[0][same], answers[1][same])


def test_a_bad_row_is_replaced_by_one_of_its_owner() -> None:
    model, x = wrapped(2, check_finite="isolate"), batch("mlp", 6)
    ids = ["a", "b", "b", "a", "b", "c"]
    spoilt = x.clone()
    spoilt[[1, 5]] = torch.nan
    filled = x.clone()
    filled[1] = x[2]
    with torch.no_grad(), model.grouped_by(ids):
        out, expected = model(spoilt), model(filled)
    assert out[[1, 5]].isnan().all()
    assert torch.equal(out[[0, 2, 3, 4]], expected[[0, 2, 3, 4]])


@pytest.mark.parametrize("strategy", ["slots", "pool"])
def test_sentences_with_masks(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muxwrap._hooks.chunks.ELEMENTS", 1)
    model = muxwrap.wrap(texts.tiny("sequence", "bert"), 2, strategy).eval()
    ids, sentences = "abbac", texts.sentences((5, 3, 6, 4, 2))
    with torch.no_grad():
        with model.grouped_by(list(ids)):
            out = model(**sentences).logits
        for owner in "abc":
            rows = [row for row, each in enumerate(ids) if each == owner]
            expected = model(**{key: value[rows] for key, value in sentences.items()}).logits
            torch.testing.assert_close(out[rows], expected)


def test_in_compiled_code() -> None:
    model, x = wrapped(2), batch("mlp", 5)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for ids in ([0, 1, 0, 1, 0], [3, 2, 1, 1, 2]):
        with torch.no_grad(), model.grouped_by(ids):
            torch.testing.assert_close(compiled(x), model(x))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


def test_it_holds_for_the_thread_that_said_so_and_for_its_model_alone() -> None:
    model, other, x = wrapped(2), wrapped(2), batch("mlp", 4)
    plain, found = model(x), []
    with model.grouped_by([0, 1, 0, 1]):
        thread = threading.Thread(target=lambda: found.append(model(x)))
        thread.start()
        thread.join()
        assert torch.equal(found[0], plain) and torch.equal(other(x), plain)
        assert not torch.equal(model(x), plain)
        with model.grouped_by([0, 0, 0, 0]):
            assert torch.equal(model(x), plain)
    assert torch.equal(model(x), plain)


def test_an_ensemble_has_no_companions() -> None:
    model, x = wrapped(2), batch("mlp", 3)
    with model.grouped_by([0, 1, 0]):
        assert torch.equal(model.ensemble(x), wrapped(2).ensemble(x))


@pytest.mark.parametrize("rows", [1, 5])
def test_other_numbers_of_rows_are_refused(rows: int) -> None:
    model = wrapped((2, 4))
    for n in (4, 2):
        with (
            model.at(n=n),
            model.grouped_by(["xyz"] * 3),
            pytest.raises(MuxwrapError, match="give one id for each row"),
        ):
            model(batch("mlp", rows))


@pytest.mark.parametrize("ids", ["tenant", 3, [["a"]], b"ab"])
def test_what_tells_no_owners_is_refused(ids: Any) -> None:
    with pytest.raises(MuxwrapError, match=r"grouped_by\(ids\): .*give one id for each row"), wrapped().grouped_by(ids):
        pass


def test_checkpointing_runs_a_call_again_inside_of_the_block_alone() -> None:
    model, x = wrapped(2).train(), batch("mlp", 4)
    gradients = []
    for call in (model, lambda rows: checkpoint(model, rows, use_reentrant=False)):
        model.zero_grad()
        with model.grouped_by([0, 1, 0, 1]):
            (call(x) ** 2).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(map(torch.equal, *gradients))
    with model.grouped_by([0, 1, 0, 1]):
        out = checkpoint(model, x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="different number of tensors"):  # never other gradients without a word
        out.sum().backward()
