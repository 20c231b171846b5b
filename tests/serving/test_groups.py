"""Groups: who shares a mixture with whom, how long a row waits, and what each request gets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxwrap.errors import MuxwrapError
from muxwrap.serving.groups import Answer, Groups
from muxwrap.serving.planning import choose, plan
from muxwrap.serving.requests import RequestError

TENANTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=20)


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is only that of its timers: nothing is waited for, and nothing is late by accident."""

    def __init__(self) -> None:
        super().__init__()
        self.now, select = 0.0, self._selector.select

        def jump(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    loop = Clock()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def echo(seconds: float, passes: list[Any]) -> Any:
    """A pass that takes a while, notes what it got, and answers every row with itself."""

    async def each(mixtures: list[list[Any]], n: int) -> list[list[Any]]:
        passes.append((asyncio.get_running_loop().time(), n, mixtures))
        await asyncio.sleep(seconds)
        return mixtures

    return each


# -- which rows share a mixture ---------------------------------------------------------------------------------------


@given(tenants=TENANTS, n=st.integers(1, 5), mixtures=st.integers(1, 4))
def test_a_plan_keeps_tenants_apart_and_leaves_no_room_unused(tenants: list[str], n: int, mixtures: int) -> None:
    made = plan(tenants, n, mixtures)
    taken = [row for mixture in made for row in mixture]
    assert made[0][0] == 0 and len(taken) == len(set(taken)) and len(made) <= mixtures
    assert all(0 < len(mixture) <= n and len({tenants[row] for row in mixture}) == 1 for mixture in made)
    for tenant in set(tenants):  # a tenant's rows in their order
        own = [row for row, each in enumerate(tenants) if each == tenant]
        assert [row for row in taken if tenants[row] == tenant] == own[: sum(tenants[row] == tenant for row in taken)]
    for row in set(range(len(tenants))) - set(taken):
        assert len(made) == mixtures
        assert all(len(mixture) == n for mixture in made if tenants[mixture[0]] == tenants[row])


@given(tenants=TENANTS, mixtures=st.integers(1, 4))
def test_n_is_the_smallest_that_answers_as_many_rows(tenants: list[str], mixtures: int) -> None:
    sizes = (1, 2, 4, 8)
    n, made = choose(tenants, sizes, mixtures)
    rows = {size: sum(map(len, plan(tenants, size, mixtures))) for size in sizes}
    assert made == plan(tenants, n, mixtures)
    assert rows[n] == max(rows.values()) and all(rows[size] < rows[n] for size in sizes if size < n)


# -- whole runs -------------------------------------------------------------------------------------------------------


@given(
    requests=st.lists(st.tuples(st.floats(0, 0.1), st.sampled_from(["a", "b", None])), min_size=1, max_size=25),
    sizes=st.sampled_from([(1,), (4,), (1, 2, 4)]),
    mixtures=st.integers(1, 3),
    slots=st.integers(1, 2),
    seconds=st.floats(0.001, 0.05),
)
def test_every_request_gets_its_own_answer_in_time(
    requests: list[tuple[float, Hashable]], sizes: tuple[int, ...], mixtures: int, slots: int, seconds: float
) -> None:
    passes: list[Any] = []
    seen: list[tuple[int, list[int]]] = []
    groups = Groups(
        echo(seconds, passes),
        sizes,
        mixtures=mixtures,
        slots=slots,
        max_wait=0.02,
        observe=lambda n, rows, _: seen.append((n, rows)),
    )

    async def one(number: int, at: float, tenant: Hashable) -> Answer:
        await asyncio.sleep(at)
        with groups.admit():
            return await groups.submit((number, at, tenant), tenant)

    async def main() -> list[Answer]:
        return await asyncio.gather(*(one(k, *request) for k, request in enumerate(requests)))

    answers = run(main())
    assert [answer.value for answer in answers] == [(k, *request) for k, request in enumerate(requests)]
    assert (groups.admitted, groups.waiting) == (0, 0)
    together: dict[int, list[Answer]] = {}
    for answer in answers:
        together.setdefault(answer.mixture, []).append(answer)
    for mixture in together.values():
        assert len({answer.value[2] for answer in mixture}) == 1, "tenants share a mixture"
        assert sorted(answer.index for answer in mixture) == list(range(len(mixture)))
        assert {answer.n for answer in mixture} == {mixture[0].n} and len(mixture) <= mixture[0].n
    assert len(seen) == len(passes) and sum(sum(rows) for _, rows in seen) == len(requests)
    for start, n, rows in passes:
        oldest = min(row[1] for mixture in rows for row in mixture)
        running = [at for at, *_ in passes if at < start < at + seconds - 1e-9]
        ended = [at + seconds for at, *_ in passes if at + seconds <= start + 1e-9]
        full = sum(map(len, rows)) == (max(sizes) if running else n) * mixtures
        assert len(running) < slots and n in sizes
        # It started when it was full, or when its oldest row had waited long enough while it could have started.
        ready = max([oldest, *ended])
        assert full or start >= ready + 0.02 - 1e-6
        assert start <= ready + 0.02 + 1e-6


def test_n_follows_the_queue() -> None:
    passes: list[Any] = []
    groups = Groups(echo(1.0, passes), (1, 2, 4), max_wait=0.1)

    async def main() -> list[int]:
        alone = asyncio.ensure_future(groups.submit("first"))
        await asyncio.sleep(0.5)
        many = [asyncio.ensure_future(groups.submit(k)) for k in range(7)]
        return [(await each).n for each in (alone, *many)]

    assert run(main()) == [1, 4, 4, 4, 4, 4, 4, 4]
    assert [(at, sum(map(len, rows))) for at, _, rows in passes] == [(0.0, 1), (1.0, 4), (2.1, 3)]


def test_rows_that_come_back_are_waited_for() -> None:
    """Two workers and clients that ask again: no pass for the few rows that are there when another pass ends."""
    passes: list[Any] = []
    groups = Groups(echo(1.0, passes), (1, 2, 4), mixtures=2, slots=2, max_wait=0.1)

    async def client(number: int) -> None:
        for _ in range(20):
            await groups.submit(number)
            await asyncio.sleep(0.002 * number)  # answers are read one by one

    async def main() -> float:
        await asyncio.gather(*(client(number) for number in range(20)))
        return asyncio.get_running_loop().time()

    assert run(main()) < 32, "passes ran for a few rows"  # 400 rows, 16 at a time: 25 seconds at least
    assert sum(len(mixture) for _, _, mixtures in passes for mixture in mixtures) == 400


def test_groups_may_go_on_in_another_loop() -> None:
    """As in test clients, which have a loop per request: no timer of a loop that has ended is waited for."""
    groups = Groups(echo(0.1, []), (2,), max_wait=5.0)

    async def main() -> list[Any]:
        return [(await each).value for each in [asyncio.ensure_future(groups.submit(k)) for k in range(2)]]

    assert run(main()) == run(main()) == [0, 1]
    assert run(groups.submit(3)).value == 3


def test_a_caller_that_leaves_makes_room() -> None:
    passes: list[Any] = []
    groups = Groups(echo(0.1, passes), (2,), max_wait=10.0, timeout=100)

    async def main() -> None:
        gone = asyncio.ensure_future(groups.submit("gone"))
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0.1)
        await asyncio.gather(gone, groups.submit("a"), groups.submit("b"), return_exceptions=True)

    run(main())
    assert [rows for _, _, rows in passes] == [[["a", "b"]]]


# -- requests that get no answer --------------------------------------------------------------------------------------


def refusal(error: BaseException) -> tuple[int, str]:
    assert isinstance(error, RequestError)
    return error.status, str(error)


def test_an_error_is_that_of_its_row_alone() -> None:
    async def odd_fails(mixtures: list[list[int]], n: int) -> list[list[Any]]:
        return [[RequestError(422, "odd") if row % 2 else row for row in mixture] for mixture in mixtures]

    async def main() -> list[Any]:
        groups = Groups(odd_fails, (4,))
        return await asyncio.gather(*(groups.submit(k) for k in range(4)), return_exceptions=True)

    zero, one, two, three = run(main())
    assert (zero.value, two.value) == (0, 2)
    assert refusal(one) == refusal(three) == (422, "odd")


@pytest.mark.parametrize(
    ("answers", "status", "message"),
    [
        (ZeroDivisionError("secret"), 500, "the pass failed: ZeroDivisionError"),
        (RequestError(503, "the worker ended", 1), 503, "the worker ended"),
        ([[1]], 500, "the pass gave another number of answers than of rows"),
    ],
)
def test_a_pass_that_fails_answers_its_requests_and_frees_its_slot(answers: Any, status: int, message: str) -> None:
    async def fails(mixtures: list[list[int]], n: int) -> list[list[Any]]:
        if mixtures == [["fine"]]:
            return mixtures
        if isinstance(answers, Exception):
            raise answers
        return answers

    async def main() -> None:
        groups = Groups(fails, (2,))
        lost = await asyncio.gather(groups.submit(1), groups.submit(2), return_exceptions=True)
        assert [refusal(each) for each in lost] == [(status, message)] * 2
        assert (await groups.submit("fine")).value == "fine"

    run(main())


def test_nobody_waits_for_ever() -> None:
    async def hangs(mixtures: list[list[int]], n: int) -> list[list[Any]]:
        await asyncio.sleep(1e6 if mixtures == [[1]] else 0.0)
        return mixtures

    async def main() -> None:
        groups = Groups(hangs, (1,), timeout=2.0)
        lost = asyncio.ensure_future(groups.submit(1))
        await asyncio.sleep(1.0)
        second = await groups.submit(2)
        assert second.value == 2 and asyncio.get_running_loop().time() == 2.0
        with pytest.raises(RequestError) as error:
            await lost
        assert error.value.status == 504

    run(main())


def test_what_is_over_the_bound_is_turned_away_at_once() -> None:
    passes: list[Any] = []
    groups = Groups(echo(4.0, passes), (1,), max_queue=3)

    async def one(row: int) -> Any:
        with groups.admit():
            return (await groups.submit(row)).value

    async def main() -> None:
        assert await one(-1) == -1  # by which the length of a pass is known
        accepted = [asyncio.ensure_future(one(k)) for k in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as error:
            await one(3)
        assert refusal(error.value) == (429, "3 requests wait already; send it again later")
        assert error.value.headers == {"Retry-After": "12"}
        assert await asyncio.gather(*accepted) == [0, 1, 2]
        assert await one(4) == 4

    run(main())


def test_what_was_accepted_is_answered_when_it_closes() -> None:
    passes: list[Any] = []
    groups = Groups(echo(1.0, passes), (4,), max_wait=50.0, timeout=100.0)

    async def one(row: int) -> Any:
        with groups.admit():
            return (await groups.submit(row)).value

    async def main() -> None:
        accepted = [asyncio.ensure_future(one(k)) for k in range(6)]
        await asyncio.sleep(0.5)
        groups.close()
        with pytest.raises(RequestError) as error:
            await one(6)
        assert refusal(error.value)[0] == 503 and error.value.headers == {"Retry-After": "1"}
        assert await asyncio.gather(*accepted) == list(range(6))
        assert asyncio.get_running_loop().time() < 3.0

    run(main())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, r"Groups\(sizes=0\): below 1"),
        ({"mixtures": 0}, r"Groups\(mixtures=0\): below 1; give 1 or more"),
        ({"max_wait": -1}, r"Groups\(max_wait=-1\): below 0"),
        ({"max_queue": 0}, r"Groups\(max_queue=0\): below 1"),
        ({"timeout": 0}, r"Groups\(timeout=0\): no request could be answered; give seconds above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        Groups(echo(0, []), **{"sizes": (1,), **options})
