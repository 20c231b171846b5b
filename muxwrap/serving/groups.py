"""Groups filled from concurrent requests: when a pass starts, who gets which answer, what is turned away.

Nothing here knows HTTP or a model: a server admits a request, submits its row and gets the row's answer.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from muxwrap.errors import MuxwrapError
from muxwrap.serving.planning import choose
from muxwrap.serving.requests import RequestError

Run = Callable[[list[list[Any]], int], Awaitable[list[list[Any]]]]
"""One pass: rows by mixture, and n, to answers in the same order; an answer that is an exception is that row's alone."""


@dataclass(frozen=True)
class Answer:
    """An answer and where it was made.

    Attributes:
        value: what the pass gave for the row.
        n: rows that a mixture of this pass has room for.
        mixture: number of the mixture; rows with the same number shared one.
        index: place of the row in its mixture.
    """

    value: Any
    n: int
    mixture: int
    index: int


@dataclass(eq=False)
class _Waiting:
    row: Any
    tenant: Hashable
    since: float
    answer: asyncio.Future[Answer]


class Groups:
    """Fills mixtures from concurrent requests, and runs a pass when it is full or its oldest row has waited long enough.

    Rows wait for others only while a pass could start, so the wait begins when one ends: those that it answered ask again.
    Of several n, the smallest that has room for the queue starts at once while nothing runs. Beside a pass that runs, it
    would take a worker from the many rows that come when that pass ends; so only a pass that is full at the largest n starts
    there without waiting.

    Args:
        run: one pass of the model.
        sizes: the n to choose from; of several, n follows the queue: the smallest that answers as many rows as any.
        mixtures: most mixtures of a pass.
        max_wait: seconds that a row waits for others while a pass could start.
        max_queue: requests that are admitted and not answered yet; more are turned away with status 429.
        timeout: seconds after which a request, or a pass, is given up with status 504.
        slots: passes that run at the same time.
        observe: called after each pass with n, the number of rows of each mixture, and its seconds.

    Raises:
        MuxwrapError: a number is out of its range.
    """

    def __init__(
        self,
        run: Run,
        sizes: Sequence[int],
        *,
        mixtures: int = 1,
        max_wait: float = 0.01,
        max_queue: int = 256,
        timeout: float = 30.0,
        slots: int = 1,
        observe: Callable[[int, list[int], float], object] = lambda *_: None,
    ) -> None:
        for name, value, least in (
            *(("sizes", n, 1) for n in (sizes or [0])),
            ("mixtures", mixtures, 1),
            ("max_wait", max_wait, 0),
            ("max_queue", max_queue, 1),
            ("slots", slots, 1),
        ):
            if value < least:
                raise MuxwrapError(f"Groups({name}={value!r}): below {least}; give {least} or more")
        if not timeout > 0:
            raise MuxwrapError(f"Groups(timeout={timeout!r}): no request could be answered; give seconds above 0")
        self.sizes, self.mixtures, self.slots = sorted(sizes), mixtures, slots
        self.max_wait, self.max_queue, self.timeout = max_wait, max_queue, timeout
        self.admitted, self.closing = 0, False
        self._run, self._observe = run, observe
        self._queue: dict[int, _Waiting] = {}
        self._free, self._freed, self._seconds = slots, 0.0, 0.0
        self._numbers, self._mixtures = itertools.count(), itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._passes: set[asyncio.Task[None]] = set()

    # -- requests -----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Rows that wait for a pass."""
        return len(self._queue)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as long as the block runs: from before its body is read until it is answered.

        Raises:
            RequestError: as many as ``max_queue`` are admitted (429, with the time when it is worth coming again), or
                :meth:`close` was called (503).
        """
        if self.closing:
            raise RequestError(503, "the server is shutting down; send the request to another one", 1)
        if self.admitted >= self.max_queue:
            raise RequestError(429, f"{self.admitted} requests wait already; send it again later", self._retry_after())
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def submit(self, row: Any, tenant: Hashable = None) -> Answer:
        """Wait for a place in a mixture and return the answer; a caller that is cancelled leaves its place.

        Args:
            row: what the pass gets.
            tenant: rows of different tenants never share a mixture.

        Raises:
            RequestError: the time is over (504); or whatever the pass gave for this row.
        """
        loop = asyncio.get_running_loop()
        number, answer = next(self._numbers), loop.create_future()
        self._queue[number] = _Waiting(row, tenant, loop.time(), answer)
        self._start_passes()
        try:
            return await asyncio.wait_for(answer, self.timeout)
        except asyncio.TimeoutError:
            raise RequestError(504, f"no answer within {self.timeout:g} s; send it again later", 1) from None
        finally:
            self._queue.pop(number, None)

    def close(self) -> None:
        """Admit nobody any more, and wait for nobody: what was admitted is answered."""
        self.closing = True
        self._start_passes()

    def _retry_after(self) -> int:
        """Return the seconds that the admitted rows take, by the length of recent passes."""
        passes = self.admitted / (self.sizes[-1] * self.mixtures * self.slots)
        return max(1, math.ceil(passes * self._seconds))

    # -- passes -------------------------------------------------------------------------------------------------------

    def _start_passes(self) -> None:
        while self._free and self._queue:
            rows = list(self._queue.items())
            n, mixtures = choose([each.tenant for _, each in rows], self.sizes, self.mixtures)
            loop = asyncio.get_running_loop()
            full = (n if self._free == self.slots else self.sizes[-1]) * self.mixtures
            left = max(rows[0][1].since, self._freed) + self.max_wait - loop.time()
            if sum(map(len, mixtures)) < full and left > 0 and not self.closing:
                if self._timer is None:
                    self._timer = loop.call_later(left, self._wake)
                return
            if self._timer is not None:  # it was for rows that go now
                self._timer.cancel()
                self._timer = None
            taken = [[self._queue.pop(rows[k][0]) for k in mixture] for mixture in mixtures]
            self._free -= 1
            task = loop.create_task(self._pass(n, taken))
            self._passes.add(task)
            task.add_done_callback(self._passes.discard)

    def _wake(self) -> None:
        self._timer = None
        self._start_passes()

    async def _pass(self, n: int, mixtures: list[list[_Waiting]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            values = await asyncio.wait_for(self._run([[each.row for each in m] for m in mixtures], n), self.timeout)
            if [len(answers) for answers in values] != [len(mixture) for mixture in mixtures]:
                raise RequestError(500, "the pass gave another number of answers than of rows")
        except asyncio.TimeoutError:
            values = [[RequestError(504, f"the pass took over {self.timeout:g} s", 1) for _ in m] for m in mixtures]
        except Exception as error:
            values = [[_copy(error) for _ in m] for m in mixtures]
        finally:
            self._free, self._freed = self._free + 1, loop.time()
        seconds = loop.time() - began
        self._seconds = 0.8 * self._seconds + 0.2 * seconds if self._seconds else seconds
        for mixture, answers in zip(mixtures, values, strict=True):
            number = next(self._mixtures)
            for index, (each, value) in enumerate(zip(mixture, answers, strict=True)):
                _settle(each.answer, Answer(value, n, number, index))
        self._observe(n, [len(mixture) for mixture in mixtures], seconds)
        self._start_passes()


def _copy(error: Exception) -> Exception:
    """Return an error for one request: an exception that several raise would collect their tracebacks."""
    if isinstance(error, RequestError):
        return RequestError(error.status, str(error), error.retry_after)
    return RequestError(500, f"the pass failed: {type(error).__name__}")


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if future.done():  # nobody waits any more
        return
    if isinstance(answer.value, Exception):
        future.set_exception(answer.value)
    else:
        future.set_result(answer)
