"""Faults against a live server, one kind after the other, and what they did to it and to the others' requests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.serving.app import serving
from benchmarks.serving.faults import FAULTS, MAX_BODY, WAIT, Around
from benchmarks.serving.judge import differing
from benchmarks.serving.memory import PROC
from benchmarks.serving.subject import Subject

SUBJECT = Subject(layers=2, width=128, length=32)
_OPTIONS: dict[str, Any] = {"max_body": MAX_BODY, "timeout": WAIT / 2, "workers": 2, "threads": 1}


def faults(count: int) -> Iterator[dict[str, Any]]:
    """Inject every kind of fault, the slow kinds a tenth as often, and yield a record of each."""
    texts = SUBJECT.texts(500)
    model, tokenizer = SUBJECT.model(True), SUBJECT.tokenizer()
    with serving(SUBJECT, wrapped=True, **_OPTIONS) as (address, process):
        for fault, (_, rarer, _) in FAULTS.items():
            around, times = Around(int(address.rpartition(":")[2]), process, texts), -(-count // rarer)
            survived = asyncio.run(inject(around, fault, times))
            yield record(around, fault, times, survived, model, tokenizer)
    yield record(*shutdown(texts, -(-count // 20)), model, tokenizer)


def record(around: Around, fault: str, times: int, survived: int, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Judge the others' answers, and say what became of them."""
    texts = {number: around.text(number) for number in around.answers}
    made = {
        "name": fault,
        "injected": times,
        "survived": survived,
        "others": len(around.answers) + len(around.lost),
        "told_to_come_again": dict(around.retried),
        "lost": len(around.lost),
        "misrouted": differing(model, tokenizer, texts, around.answers)[0],
    }
    print(made, file=sys.stderr, flush=True)
    return made


async def inject(around: Around, fault: str, count: int) -> int:
    """Inject a fault so many times, while others ask; return how many the server survived as is promised."""
    run, _, at_once = FAULTS[fault]
    stop, good = asyncio.Event(), 0
    others = asyncio.create_task(around.others(stop))
    for start in range(0, count, at_once):
        some = (run(around, k) for k in range(start, min(count, start + at_once)))
        good += sum(each is True for each in await asyncio.gather(*some, return_exceptions=True))
    stop.set()
    await others
    return good


def shutdown(texts: list[str], count: int) -> tuple[Around, str, int, int]:
    """End servers in the middle of a hundred requests: each is answered or told to come again."""
    merged, survived = Around(0, 0, texts), 0
    for server in range(count):
        with serving(SUBJECT, wrapped=True, **_OPTIONS) as (address, process):
            around = Around(int(address.rpartition(":")[2]), process, texts)
            found = asyncio.run(_end(around))
        survived += found[0] == 0 and found[200] > 0
        merged.retried[503] += found[503]
        # Every server counts its mixtures from zero; they are judged apart.
        for number, answer in around.answers.items():
            merged.answers[number + server * len(texts)] = {**answer, "mixture": (server, answer["mixture"])}
        merged.lost += around.lost
    return merged, "shutdown", count, survived


async def _end(around: Around) -> Counter[int]:
    async with around.session() as session:
        asked = [asyncio.create_task(around.ask(session, around.text(number))) for number in range(100)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        os.kill(around.process, signal.SIGTERM)
        found = await asyncio.gather(*asked)
    for _ in range(int(WAIT / 0.1)):  # a second signal would end it at once
        if (PROC / str(around.process) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        await asyncio.sleep(0.1)
    around.answers |= {number: answer for number, (status, answer) in enumerate(found) if status == 200}
    around.lost += [number for number, (status, _) in enumerate(found) if status not in (200, 503)]
    return Counter(status for status, _ in found)
