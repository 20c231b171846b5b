"""Clients that send one request after the other, side by side, and what they saw."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

_TELL = 15.0  # seconds between two lines about how far it is


@dataclass
class Load:
    """What the clients saw: the answer to every text, by its number, and the seconds of each."""

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0
    processor: float = 0.0
    """Seconds of a core that the clients took."""

    def record(self) -> dict[str, Any]:
        """Summarize: requests per second, latency in milliseconds, and by mixtures the fill and n."""
        mixtures: dict[int, int] = {answer["mixture"]: answer["n"] for answer in self.answers.values()}
        room = sum(mixtures.values())
        return {
            "requests": len(self.answers),
            "failures": dict(self.failures),
            "per_second": len(self.answers) / self.wall,
            "p50_ms": 1000 * quantile(self.seconds, 0.5),
            "p99_ms": 1000 * quantile(self.seconds, 0.99),
            "fill": len(self.answers) / room if room else None,
            "mixtures_per_second": len(mixtures) / self.wall,
            "mixtures_by_n": {str(n): count for n, count in sorted(Counter(mixtures.values()).items())},
        }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else float("nan")


def drive(address: str, texts: Sequence[str], clients: int, *, until: float | None = None) -> Load:
    """Send every text once, or texts over and over until a time of ``time.monotonic``.

    Args:
        address: of a server on this machine.
        texts: what is sent.
        clients: each sends its next request when it has its answer.
        until: when to stop; answers are then not kept.

    Raises:
        ValueError: the address is of another machine.
    """
    if not address.startswith("http://127.0.0.1:"):
        raise ValueError(f"{address}: load is put on servers of this machine alone")
    return asyncio.run(_drive(address, texts, clients, until))


async def _drive(address: str, texts: Sequence[str], clients: int, until: float | None) -> Load:
    load, began, busy = Load(), time.monotonic(), time.process_time()
    numbers = iter(range(len(texts))) if until is None else itertools.cycle(range(len(texts)))

    async def one(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            if until is not None and time.monotonic() > until:
                return
            started = time.perf_counter()
            try:
                async with session.post("/predict", json={"text": texts[number]}) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                load.failures[type(error).__name__] += 1
                continue
            if response.status != 200:
                load.failures[str(response.status)] += 1
                continue
            load.seconds.append(time.perf_counter() - started)
            if until is None:
                load.answers[number] = answer

    async def tell() -> None:
        while True:
            await asyncio.sleep(_TELL)
            _progress(len(load.seconds), time.monotonic() - began, len(texts), until)

    limits, timeout = aiohttp.TCPConnector(limit=clients), aiohttp.ClientTimeout(120)
    async with aiohttp.ClientSession(address, connector=limits, timeout=timeout) as session:
        telling = asyncio.create_task(tell())
        await asyncio.gather(*(one(session) for _ in range(clients)))
        telling.cancel()
        load.wall, load.processor = time.monotonic() - began, time.process_time() - busy
    return load


def _progress(answered: int, passed: float, whole: int, until: float | None) -> None:
    left = (whole - answered) * passed / max(1, answered) if until is None else until - time.monotonic()
    of = f" of {whole}" if until is None else ""
    print(f"  {answered}{of} answered, {answered / passed:.1f}/s, {left:.0f} s left", file=sys.stderr, flush=True)
