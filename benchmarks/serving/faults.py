"""What goes wrong around a server, many times of each kind, while others ask it and have to be answered right."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.serving.memory import tree

MAX_BODY = 100_000
WAIT = 60.0
"""Seconds after which a request counts as hung."""
_AT_ONCE = 50
_FAULT = "fault"
_OTHERS = 100  # requests at least that the others send during a fault and after it
_HEAD = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
_MALFORMED = (
    b"",
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b'{"text": NaN}',
    b'{"text": "\\ud800"}',
    b'{"text": ["w1"]}',
    b'{"text": "w1", "temperature": 1}',
    json.dumps({"text": "w1 " * 5000}).encode(),
    json.dumps({"text": "w1", "tenant": "t" * 1000}).encode(),
)


@dataclass
class Around:
    """The server that faults are injected into, and what became of the others' requests.

    Attributes:
        port: of the server.
        process: its id.
        texts: what the others ask, one after the other, over and over.
        answers: to them, by number.
        retried: how often one was told to come again, by status.
        lost: numbers that got no answer to the end, or another status.
    """

    port: int
    process: int
    texts: list[str]
    answers: dict[int, Any] = field(default_factory=dict)
    retried: Counter[int] = field(default_factory=Counter)
    lost: list[int] = field(default_factory=list)

    def text(self, number: int) -> str:
        return self.texts[number % len(self.texts)]

    async def send(self, data: bytes, leave: bool = False) -> int:
        """Send bytes over a connection of their own; return the status of the answer, 0 if the server closes without one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if leave:
                await asyncio.sleep(0.05 * random.random())
                return 0
            words = (await asyncio.wait_for(reader.readline(), WAIT)).split()
            return int(words[1]) if words else 0
        except ConnectionError:
            return 0
        finally:
            writer.close()

    async def ask(self, session: aiohttp.ClientSession, text: str, tenant: str = "others") -> tuple[int, Any]:
        """Send a good request; its status is 0 where there was no whole answer.

        Requests that belong to a fault have a tenant of their own: whole groups are judged, and nobody keeps their answers.
        """
        try:
            async with session.post("/predict", json={"text": text, "tenant": tenant}) as response:
                return response.status, await response.json()
        except (aiohttp.ClientError, asyncio.TimeoutError):
            return 0, None

    def session(self) -> aiohttp.ClientSession:
        """Return clients of the server."""
        limits, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(WAIT)
        return aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", connector=limits, timeout=timeout)

    async def others(self, stop: asyncio.Event, clients: int = 8) -> None:
        """Ask as long as faults are injected; who is told to come again does so."""
        numbers = itertools.count()

        async def client(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                status, answer = await self.ask(session, self.text(number))
                while status in (429, 503):
                    self.retried[status] += 1
                    await asyncio.sleep(0.2)
                    status, answer = await self.ask(session, self.text(number))
                if status == 200:
                    self.answers[number] = answer
                else:
                    self.lost.append(number)
                if stop.is_set() and number >= _OTHERS:
                    return

        async with self.session() as session:
            await asyncio.gather(*(client(session) for _ in range(clients)))


def _head(length: int) -> bytes:
    return _HEAD.format(length).encode()


async def slow_head(around: Around, _: int) -> bool:
    return await around.send(b"POST /predict HTTP/1.1\r\nHo") == 0


async def slow_body(around: Around, _: int) -> bool:
    return await around.send(_head(100) + b'{"text"') == 408


async def dropped(around: Around, number: int) -> bool:
    """Leave in the middle of the body, or when it is sent: nobody is there to be answered."""
    body = json.dumps({"text": "w1 w2", "tenant": _FAULT}).encode()
    return await around.send(_head(len(body)) + body[: None if number % 2 else 8], leave=True) == 0


async def oversized(around: Around, number: int) -> bool:
    length = MAX_BODY + 1 if number % 2 else 10**12
    return await around.send(_head(length) + b" " * 1000) == 413


async def malformed(around: Around, number: int) -> bool:
    body = _MALFORMED[number % len(_MALFORMED)]
    return await around.send(_head(len(body)) + body) in (400, 422)


async def flood(around: Around, number: int) -> bool:
    """Twice as many requests at once as are taken: each is answered, or told to come again."""
    async with around.session() as session:
        text = around.text(number)
        found = Counter(
            status for status, _ in await asyncio.gather(*(around.ask(session, text, _FAULT) for _ in range(512)))
        )
    return found[200] > 0 and found[429] > 0 and found[200] + found[429] == 512


async def killed(around: Around, number: int) -> bool:
    """Kill a worker at any moment; it survives if the next request is answered, by another one."""
    workers = [each for each in tree(around.process)[1:] if _is_worker(each)]
    os.kill(random.choice(workers), signal.SIGKILL)
    async with around.session() as session:
        for _ in range(int(WAIT / 0.2)):
            status, _answer = await around.ask(session, around.texts[0], _FAULT)
            if status == 200:
                return True
            await asyncio.sleep(0.2)
    return False


def _is_worker(process: int) -> bool:
    """Whether a process was spawned, as workers are; the others are LitServe's manager and Python's tracker."""
    return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()


Fault = Callable[[Around, int], Awaitable[bool]]
FAULTS: dict[str, tuple[Fault, int, int]] = {
    "head that does not end": (slow_head, 1, _AT_ONCE),
    "body that does not end": (slow_body, 1, _AT_ONCE),
    "client that leaves": (dropped, 1, _AT_ONCE),
    "body that is too long": (oversized, 1, _AT_ONCE),
    "malformed body": (malformed, 1, _AT_ONCE),
    "flood of 512 requests": (flood, 10, 1),
    "worker killed": (killed, 10, 1),
}
"""By name: the fault, how many times less often than the others it is injected, and how many of it at once."""
