"""Groupings: every row once in each, whole groups but the last, the same ones from the same seed."""

from __future__ import annotations

import torch
from helpers import random_state_untouched
from hypothesis import given
from hypothesis import strategies as st

from muxwrap.evaluation import groupings

WHOLE = st.integers(0, 2**31)


@given(rows=st.integers(1, 60), n=st.integers(1, 7), batch=st.integers(1, 30), seed=WHOLE, by_length=st.booleans())
def test_every_row_is_in_every_grouping_once(rows: int, n: int, batch: int, seed: int, by_length: bool) -> None:
    lengths = torch.arange(rows) % 9 + 1 if by_length else None
    with random_state_untouched():
        found = list(groupings(rows, n, 3, seed, batch=batch, lengths=lengths))
    assert len(found) == (1 if n == 1 else 3)
    for grouping in found:
        assert torch.cat(grouping).sort().values.tolist() == list(range(rows))
        assert sum(len(each) % n > 0 for each in grouping) == (rows % n > 0)
        assert max(map(len, grouping)) < batch + n


def test_groupings_differ_and_come_again() -> None:
    first, second = (torch.cat(each).tolist() for each in groupings(30, 3, 2, seed=4))
    assert first != second
    assert torch.cat(next(groupings(30, 3, 1, seed=5))).tolist() == second
    assert first == torch.randperm(30, generator=torch.Generator().manual_seed(4)).tolist()


def test_a_bare_model_takes_the_rows_in_order() -> None:
    (found,) = groupings(10, 1, 5, batch=4)
    assert [each.tolist() for each in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_companions_are_of_like_length() -> None:
    lengths = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for grouping in groupings(64, 4, 2, batch=8, lengths=lengths):
        assert all(lengths[each].max() - lengths[each].min() == 7 for each in grouping)
    indices = {
        tuple(lengths[each].argsort().tolist())
        for grouping in groupings(64, 4, 2, batch=8, lengths=lengths)
        for each in grouping
    }
    assert len(indices) > 10, "which index a row has does not depend on its length"
