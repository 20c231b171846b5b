"""Batches of like length, and the order restored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

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


ranks = st.integers(1, 5)


def of_all_ranks(lengths: list[int], rows: int, count: int, *, shuffle: bool, epoch: int = 0) -> list[list[list[int]]]:
    samplers = [LengthBatches(lengths, rows, shuffle=shuffle, num_replicas=count, rank=rank) for rank in range(count)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    batches = [list(sampler) for sampler in samplers]
    assert [len(given) for given in batches] == [len(sampler) for sampler in samplers]
    return batches


@given(lengths=lengths, rows=st.integers(1, 20), count=ranks, shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_ranks_divide_the_rows_as_a_distributed_sampler_does(
    lengths: list[int], rows: int, count: int, shuffle: bool, epoch: int
) -> None:
    batches = of_all_ranks(lengths, rows, count, shuffle=shuffle, epoch=epoch)
    reference = [DistributedSampler(range(len(lengths)), count, rank, shuffle=False) for rank in range(count)]  # type: ignore[arg-type]
    given = [[row for batch in each for row in batch] for each in batches]
    assert [len(each) for each in given] == [len(sampler) for sampler in reference]
    assert len({tuple(map(len, each)) for each in batches}) == 1  # the same steps of the same sizes
    together = sorted(row for each in given for row in each)
    assert set(together) == set(range(len(lengths)))
    assert len(together) - len(lengths) == -len(lengths) % count  # no row twice but to fill up
    assert max(map(len, batches[0])) <= rows


@given(lengths=lengths, rows=st.integers(1, 20), count=ranks)
def test_answers_of_all_ranks_come_back_in_order(lengths: list[int], rows: int, count: int) -> None:
    batches = of_all_ranks(lengths, rows, count, shuffle=False)
    answers = torch.tensor([[float(row)] for each in batches for batch in each for row in batch])
    sampler = LengthBatches(lengths, rows, num_replicas=count)
    assert sampler.in_order(answers).flatten().tolist() == list(range(len(lengths)))


def test_ranks_get_other_rows_in_every_epoch_and_of_like_length() -> None:
    lengths = torch.randint(1, 100, (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    first, second = (of_all_ranks(lengths, 8, 4, shuffle=True, epoch=epoch) for epoch in (0, 1))
    assert first != second
    steps = [[[lengths[row] for row in batch] for batch in step] for step in zip(*first, strict=True)]
    apart = [max(map(max, step)) - min(map(max, step)) for step in steps]  # of the ranks' longest rows in a step
    assert sum(apart) / len(apart) < 3


def test_errors() -> None:
    with pytest.raises(MuxwrapError, match="2 ids for 3 rows; give one id for each row"):
        LengthBatches([1, 2, 3], 2, group_by=["a", "b"])
    with pytest.raises(MuxwrapError, match="'abc' is one value; give one id for each row"):
        LengthBatches([1, 2, 3], 2, group_by="abc")
    for count, rank in ((0, 0), (2, 2), (2, -1)):
        with pytest.raises(MuxwrapError, match=rf"num_replicas={count}, rank={rank}.*; give torch.distributed"):
            LengthBatches([1], 1, num_replicas=count, rank=rank)
    with pytest.raises(MuxwrapError, match=r"lengths=\[\], num_replicas=2\): no rows; give their lengths"):
        LengthBatches([], 1, num_replicas=2)
    with pytest.raises(MuxwrapError, match=r"1 answers for 4 rows; give those of all 2 processes"):
        LengthBatches([1, 2, 3], 1, num_replicas=2).in_order(torch.zeros(1))
    with pytest.raises(MuxwrapError, match="rows=0"):
        LengthBatches([1], 0)
    with pytest.raises(MuxwrapError, match="shuffle=False"):
        LengthBatches([1], 1, shuffle=True).in_order(torch.zeros(1))
    with pytest.raises(MuxwrapError, match="2 answers for 1 rows"):
        LengthBatches([1], 1).in_order(torch.zeros(2))


@given(lengths=lengths, rows=st.integers(1, 20), count=ranks, owners=st.integers(1, 5), shuffle=st.booleans())
def test_ranks_and_owners_go_together(lengths: list[int], rows: int, count: int, owners: int, shuffle: bool) -> None:
    ids = [length % owners for length in lengths]
    samplers = [
        LengthBatches(lengths, rows, shuffle=shuffle, num_replicas=count, rank=rank, group_by=ids)
        for rank in range(count)
    ]
    steps = list(zip(*samplers, strict=True))
    assert len(steps) == len(samplers[0])
    assert all(len({ids[row] for batch in step for row in batch}) == 1 for step in steps)
    assert all(len({len(batch) for batch in step}) == 1 and len(step[0]) <= rows for step in steps)
    assert {row for step in steps for batch in step for row in batch} == set(range(len(lengths)))
