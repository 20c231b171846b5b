"""The load test of the server: clients, the judge of their answers, memory, and the table."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
import time

import pytest
from served import listening

from benchmarks.serving.faults import MAX_BODY, Around
from benchmarks.serving.injecting import inject, record
from benchmarks.serving.judge import differing, groups
from benchmarks.serving.load import drive, quantile
from benchmarks.serving.memory import megabytes, slope, tree
from benchmarks.serving.report import faults_table, soaks, table
from benchmarks.serving.subject import Subject
from muxwrap import serving

TINY = Subject(layers=2, width=64, length=12)


def test_answers_are_judged_by_the_groups_that_they_were_made_in() -> None:
    model, tokenizer, texts = TINY.model(True), TINY.tokenizer(), TINY.texts(21)
    service = serving.service(model, tokenizer=tokenizer, n_min=4, mixtures=2, max_wait=0.1)
    with listening(service) as client:
        load = drive(str(client.base_url), texts, 6)
        until = drive(str(client.base_url), texts[:3], 2, until=time.monotonic() + 0.3)
    assert sorted(load.answers) == list(range(21)) and not load.failures
    assert differing(TINY.model(True), tokenizer, texts, load.answers)[0] == 0
    changed = copy.deepcopy(load.answers)
    changed[3]["output"]["logits"][0] += 0.01
    assert differing(model, tokenizer, texts, changed)[0] == 1
    assert differing(model, tokenizer, texts[::-1], load.answers)[0] > 10
    record = load.record()
    shared = [members for some in groups(load.answers).values() for members in some]
    assert record["requests"] == sum(map(len, shared)) == 21
    assert sum(record["mixtures_by_n"].values()) == len(shared)
    assert set(record["mixtures_by_n"]) <= {"4", "8"} and 0 < record["fill"] <= 1
    assert 0 < record["p50_ms"] <= record["p99_ms"]
    assert until.seconds and not until.answers


def test_failures_are_counted() -> None:
    service = serving.service(TINY.model(True), tokenizer=TINY.tokenizer(), max_length=4)
    with listening(service) as client:
        load = drive(str(client.base_url), TINY.texts(3), 2)
    assert load.failures == {"422": 3} and not load.answers


def test_load_is_put_on_this_machine_alone() -> None:
    with pytest.raises(ValueError, match="load is put on servers of this machine alone"):
        drive("http://localhost.example:80", ["a"], 1)


def test_the_table_compares_with_the_bare_model() -> None:
    base = {
        "model": "BERT",
        "clients": 50,
        "p50_ms": 10.4,
        "p99_ms": 99.6,
        "fill": 0.97,
        "unequal": None,
        "requests": 9,
    }
    bare = {**base, "server": "bare", "mixtures": 16, "n_max": 1, "per_second": 20.0, "mixtures_by_n": {"1": 9}}
    ours = {**base, "server": "n=8", "mixtures": 2, "n_max": 8, "per_second": 90.0, "mixtures_by_n": {"8": 3, "4": 1}}
    cores = {"server": 1.0, "workers": 6.2, "clients": 0.3}
    other = {**bare, "model": "larger", "per_second": 5.0}
    lines = table([bare, {**ours, "unequal": 0, "core_ms_per_request": cores}, other]).splitlines()
    assert lines[2] == "| BERT | bare | 50 | 16 | 20.0 | 1.00x | 10 | 100 |  | 97% | 1: 100% |  |"
    assert lines[3] == "| BERT | n=8 | 50 | 16 | 90.0 | 4.50x | 10 | 100 | 7.5 | 97% | 8: 75%, 4: 25% | 0 of 9 |"
    assert lines[4].startswith("| larger | bare | 50 | 16 | 5.0 | 1.00x |") and len(lines) == 5


def test_a_soak_is_one_line() -> None:
    record = {"model": "BERT", "server": "n=8", "clients": 50, "minutes": 10.0, "requests": 12_345, "failures": {}}
    memory = [900.2, 950.7, *[940.0] * 17, 951.0]  # two samples a minute
    (line,) = soaks([{**record, "megabytes": memory, "growth_mb_per_minute": 0.031}])
    assert line.startswith(
        "BERT, n=8, 10 minutes with 50 clients: 12,345 requests answered, failures: none; memory of all"
    )
    assert "at most 950.7 MB in the first minute and 951.0 MB in the last" in line
    assert line.endswith(", a line through the last four fifths +0.03 MB a minute.")
    (short,) = soaks([{**record, "failures": {"429": 3}, "megabytes": [1.0], "growth_mb_per_minute": None}])
    assert "failures: 3 of 429" in short and short.endswith("1.0 MB in the last.")


def test_faults_are_summed_up() -> None:
    one = {"name": "flood", "injected": 10, "survived": 9, "others": 1000, "told_to_come_again": {"429": 7, "503": 1}}
    one |= {"lost": 1, "misrouted": 0}
    lines = faults_table([one, {**one, "name": "killed", "survived": 10, "lost": 0}]).splitlines()
    assert lines[2:] == [
        "| flood | 10 | 9 | 1,000 | 8 | 1 | 0 |",
        "| killed | 10 | 10 | 1,000 | 8 | 0 | 0 |",
        "| all | 20 | 19 | 2,000 | 16 | 1 | 0 |",
    ]


def test_faults_are_injected_while_others_are_answered() -> None:
    """Those that need no process of their own."""
    model, tokenizer = TINY.model(True), TINY.tokenizer()
    with listening(serving.service(model, tokenizer=tokenizer, max_body=MAX_BODY)) as client:
        for fault in ("client that leaves", "body that is too long", "malformed body"):
            around = Around(client.base_url.port, 0, TINY.texts(9))
            assert asyncio.run(inject(around, fault, 9)) == 9
            made = record(around, fault, 9, 9, model, tokenizer)
            assert made["others"] >= 100 and (made["lost"], made["misrouted"]) == (0, 0)


def test_quantiles_and_slopes() -> None:
    assert [quantile(range(1, 101), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == 2


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux alone has it")
def test_memory_is_that_of_a_process_and_its_children() -> None:
    code = "import time; held = b'a' * 60_000_000; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            assert child.pid in tree(os.getpid()) and os.getpid() not in tree(child.pid)
            assert 55 < megabytes(child.pid) < 120
            assert megabytes(os.getpid()) > megabytes(child.pid) + 30
        finally:
            child.kill()
