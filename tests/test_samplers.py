"""Batches of like length, and the order restored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from muxwrap import MuxwrapError
from muxwrap.samplers import LengthBatches, pad_batch

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200)


@given(lengths=lengths, rows=st.integers(1, 50), shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_every_row_once(lengths: list[int], rows: int, shuffle: bool, epoch: int) -> None:
    sampler = LengthBatches(lengths, rows, shuffle=shuffle)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= rows for batch in batches)


@given(lengths=lengths, rows=st.integers(1, 50))
def test_padding_is_the_least_possible(lengths: list[int], rows: int) -> None:
    padded = sum(max(lengths[row] for row in batch) for batch in LengthBatches(lengths, rows))
    best = sum(sorted(lengths, reverse=True)[::rows])
    assert padded == best


@given(lengths=lengths, rows=st.integers(1, 50))
def test_order_comes_back(lengths: list[int], rows: int) -> None:
    sampler = LengthBatches(lengths, rows)
    answers = torch.tensor([[float(row)] for batch in sampler for row in batch])
    assert sampler.in_order(answers).flatten().tolist() == list(range(len(lengths)))


@given(lengths=lengths, rows=st.integers(1, 20), shuffle=st.booleans(), owners=st.integers(1, 9))
def test_a_batch_holds_rows_of_one_owner(lengths: list[int], rows: int, shuffle: bool, owners: int) -> None:
    ids = [f"tenant {length % owners}" for length in lengths]
    sampler = LengthBatches(lengths, rows, shuffle=shuffle, group_by=ids)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len({ids[row] for row in batch}) == 1 and len(batch) <= rows for batch in batches)
    if not shuffle:
        answers = torch.tensor([[float(row)] for batch in batches for row in batch])
        assert sampler.in_order(answers).flatten().tolist() == list(range(len(lengths)))


def test_shuffling_depends_on_seed_and_epoch_only() -> None:
    sampler = LengthBatches(list(range(100)), 8, shuffle=True, seed=1)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    assert first != list(LengthBatches(list(range(100)), 8, shuffle=True, seed=2))


def test_shuffled_batches_are_of_like_length() -> None:
    lengths = torch.randint(1, 100, (4000,), generator=torch.Generator().manual_seed(0)).tolist()
    padded = sum(len(b) * max(lengths[row] for row in b) for b in LengthBatches(lengths, 16, shuffle=True))
    assert padded < 1.1 * sum(lengths)


def test_collating() -> None:
    rows = [{"input_ids": list(range(1, size + 1)), "labels": size % 2, "tags": [1] * size} for size in (3, 1, 2)]
    loader = DataLoader(
        rows,
        batch_sampler=LengthBatches([3, 1, 2], 2),
        collate_fn=lambda batch: pad_batch(batch, padding={"tags": -100}),
    )
    batches = list(loader)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 3), (1, 1)]
    assert batches[0]["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batches[0]["tags"].tolist() == [[1, 1, 1], [1, 1, -100]]
    assert batches[0]["labels"].tolist() == [1, 0]


def test_errors() -> None:
    with pytest.raises(MuxwrapError, match="2 ids for 3 rows; give one id for each row"):
        LengthBatches([1, 2, 3], 2, group_by=["a", "b"])
    with pytest.raises(MuxwrapError, match="'abc' is one value; give one id for each row"):
        LengthBatches([1, 2, 3], 2, group_by="abc")
    with pytest.raises(MuxwrapError, match="rows=0"):
        LengthBatches([1], 0)
    with pytest.raises(MuxwrapError, match="shuffle=False"):
        LengthBatches([1], 1, shuffle=True).in_order(torch.zeros(1))
    with pytest.raises(MuxwrapError, match="2 answers for 1 rows"):
        LengthBatches([1], 1).in_order(torch.zeros(2))
