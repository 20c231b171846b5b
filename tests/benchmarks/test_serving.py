"""The load test of the server: clients, the judge of their answers, memory, and the table."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time

import pytest
from served import listening

from benchmarks.serving.judge import differing, groups
from benchmarks.serving.load import drive, quantile
from benchmarks.serving.memory import megabytes, slope, tree
from benchmarks.serving.report import table
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
    base = {"kind": "load", "clients": 50, "p50_ms": 10.4, "p99_ms": 99.6, "fill": 0.97, "unequal": None, "requests": 9}
    bare = {**base, "server": "bare", "mixtures": 16, "n_max": 1, "per_second": 20.0, "mixtures_by_n": {"1": 9}}
    ours = {**base, "server": "n=8", "mixtures": 2, "n_max": 8, "per_second": 90.0, "mixtures_by_n": {"8": 3, "4": 1}}
    soaked = {"kind": "soak", "server": "n=8", "clients": 50}
    lines = table([bare, {**ours, "unequal": 0}, soaked]).splitlines()
    assert lines[2] == "| bare | 50 | 16 | 20.0 | 1.00x | 10 | 100 | 97% | 1: 100% |  |"
    assert lines[3] == "| n=8 | 50 | 16 | 90.0 | 4.50x | 10 | 100 | 97% | 8: 75%, 4: 25% | 0 of 9 |"
    assert len(lines) == 4


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
