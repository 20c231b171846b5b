"""Which rows share a mixture."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muxwrap.inference.mixtures import Mark, batches

kinds = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 20))


def marks_of(drawn: list[tuple[int, int, int]]) -> list[Mark]:
    return [Mark(row, *each) for row, each in enumerate(drawn)]


@given(drawn=st.lists(kinds, max_size=60), n=st.integers(1, 5), mixtures=st.integers(1, 4))
def test_every_row_is_answered_once_among_its_kind(drawn: list[tuple[int, int, int]], n: int, mixtures: int) -> None:
    marks = marks_of(drawn)
    found = batches(marks, n, n * mixtures)
    assert found == batches(marks, n, n * mixtures)
    own = [row for batch in found for mixture in batch for row in mixture.rows[: mixture.own]]
    assert sorted(own) == list(range(len(marks)))
    for batch in found:
        assert len(batch) <= mixtures
        assert len({marks[row].shape for mixture in batch for row in mixture.rows}) == 1
        for mixture in batch:
            assert len(mixture.rows) == n
            assert len({marks[row].apart for row in mixture.rows}) == 1


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80), n=st.integers(1, 6))
def test_padding_is_the_least_possible(lengths: list[int], n: int) -> None:
    found = batches([Mark(row, None, None, length) for row, length in enumerate(lengths)], n, 2 * n)
    longest = [max(lengths[row] for row in mixture.rows[: mixture.own]) for batch in found for mixture in batch]
    assert sorted(longest, reverse=True) == sorted(lengths, reverse=True)[::n]


def test_a_mixture_is_filled_with_the_rows_before_it() -> None:
    marks = [Mark(row, None, None, length) for row, length in enumerate([3, 9, 5, 7, 1])]
    ((first, last),) = batches(marks, 4, 8)
    assert (first.rows, first.own) == ((1, 3, 2, 0), 4)
    assert (last.rows, last.own) == ((4, 0, 2, 3), 1)


def test_few_rows_fill_their_mixture_with_themselves() -> None:
    ((only,),) = batches([Mark(0, None, "a", 1), Mark(1, None, "a", 1)], 5, 5)
    assert (only.rows, only.own) == ((0, 1, 1, 0, 1), 2)
