"""A stem that runs chunk by chunk gives the numbers of one that runs whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap import strategies
from muxwrap._hooks import chunks

ADDITIVE = [name for name in muxwrap.list_strategies("features") if strategies.registry.get(name).additive]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ELEMENTS", 1)  # one row at a time


@given(rows=st.integers(1, 40), n=st.integers(1, 9), most=st.integers(1, 20))
def test_chunks_cover_every_group_once(rows: int, n: int, most: int) -> None:
    cut = list(chunks.Chunks((), {}, rows, n, most))
    assert [row for chunk in cut for row in chunk] == list(range(-(-rows // n) * n))
    assert all(len(chunk) % n == 0 or chunk.start // n == (chunk.stop - 1) // n for chunk in cut)
    assert max(map(len, cut)) <= max(most, 1)


@pytest.mark.parametrize("name", ADDITIVE)
@given(data=st.data())
def test_parts_add_up_to_the_mixture(name: str, data: st.DataObject) -> None:
    n, groups = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    strategy = strategies.registry.get(name)(n, 17).double()
    x = torch.randn(groups, n, 2, 17, dtype=torch.float64)
    at = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=3))})
    parts = [strategy.mix(x[:, a:b], a) for a, b in itertools.pairwise(at)]
    assert all(part.shape == (groups, 2, 17) for part in parts)
    torch.testing.assert_close(torch.stack(parts).sum(0), strategy(x))


def watch(model: muxwrap.Multiplex) -> list[int]:
    """Return a list to which every look-up of tokens adds its number of rows, without a hook, which would be noticed."""
    seen: list[int] = []

    class Watched(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            seen.append(len(ids))
            return super().forward(ids)

    model.backbone.bert.embeddings.word_embeddings.__class__ = Watched
    return seen


def answers(model: muxwrap.Multiplex, batch: dict[str, Tensor]) -> Iterator[Tensor]:
    with torch.no_grad():
        yield model(**batch).logits
    yield model(**batch).logits.detach()  # with gradients nothing is cut


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("rows", [1, 3, 4, 7])
@pytest.mark.parametrize("strategy", ["slots", "hadamard", "identity"])
def test_chunks_give_the_same_answers(strategy: str, rows: int) -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3, strategy).eval()
    batch = sentences((4, 9, 7, 9, 3, 5, 6)[:rows])
    seen = watch(model)
    cut, whole = answers(model, batch)
    torch.testing.assert_close(cut, whole)
    assert len(seen) == (2 if rows == 1 else -(-rows // 3) * 3 + 1)  # row by row, and then once


@pytest.mark.usefixtures("small")
def test_a_strategy_that_is_not_additive_gets_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3, "hadamard").eval()
    monkeypatch.setattr(type(model.strategy), "additive", False)
    seen = watch(model)
    cut, whole = answers(model, sentences((5,) * 7))
    torch.testing.assert_close(cut, whole)
    assert seen == [3, 3, 3, 7]


@pytest.mark.usefixtures("small")
def test_where_a_user_has_a_hook_on_the_stem_it_runs_whole() -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3).eval()
    mixtures: list[int] = []
    model.backbone.bert.embeddings.register_forward_hook(lambda m, a, out: mixtures.append(len(out)))
    seen = watch(model)
    with torch.no_grad():
        model(**sentences((5,) * 6))
    assert (mixtures, seen) == ([2], [6])


PLACES = ["", "bert", "bert.embeddings", "bert.embeddings.word_embeddings", "bert.embeddings.LayerNorm"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("path", PLACES)
def test_hooks_in_and_above_the_stem_see_every_row_once(path: str, training: bool) -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3).eval()
    looked_up = watch(model)
    seen: list[int] = []
    module = model.backbone.get_submodule(path)
    handle = module.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(len(next(iter((*args, *kwargs.values()))))), with_kwargs=True
    )
    with torch.set_grad_enabled(training):
        model(**sentences((5,) * 7))
        assert (seen, looked_up) == ([7], [7])
        handle.remove()
        model(**sentences((5,) * 7))
    assert len(looked_up) == (2 if training else 10)  # whole, or row by row again, with two to fill the last group


@pytest.mark.usefixtures("small")
def test_a_hook_on_all_modules_sees_every_row_once() -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3).eval()
    embedding, seen = model.backbone.bert.embeddings.word_embeddings, []
    handle = nn.modules.module.register_module_forward_hook(
        lambda m, args, out: seen.append(len(out)) if m is embedding else None
    )
    try:
        with torch.no_grad():
            model(**sentences((5,) * 7))
    finally:
        handle.remove()
    assert seen == [7]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("path", PLACES[:4])
def test_a_hook_that_changes_the_ids_changes_those_of_all_rows(path: str) -> None:
    model = muxwrap.wrap(tiny("sequence", "bert"), 3).eval()
    batch = sentences((5,) * 7)
    changed = {**batch, "input_ids": torch.full_like(batch["input_ids"], 7)}
    expected = model(**changed).logits

    def change(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        ids = [torch.full_like(value, 7) for value in args]
        return tuple(ids), {**kwargs, **({"input_ids": changed["input_ids"]} if "input_ids" in kwargs else {})}

    model.backbone.get_submodule(path).register_forward_pre_hook(change, with_kwargs=True)
    for answer in answers(model, batch):
        torch.testing.assert_close(answer, expected)
