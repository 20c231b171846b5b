"""The proof of batch inference: its rows, its counts, and that the right process is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_jobs import write

from benchmarks.inference import report
from benchmarks.inference.__main__ import main, wrong
from benchmarks.inference.compare import compared
from benchmarks.inference.data import write_rows
from benchmarks.inference.killing import command, kill_one, wait_until_gone

SMALL = ["--rows", "300", "--part", "64", "--n", "2", "--dim", "16", "--layers", "1", "--workers"]


def test_one_process_small(tmp_path: Path) -> None:
    path = tmp_path / "inference.json"
    assert main([*SMALL, "--results", str(path)]) == 0
    (record,) = json.loads(path.read_text())["records"]
    assert (record["rows"], record["keys"], record["lost"], record["twice"]) == (300, 300, 0, 0)
    assert record["errors"] == 1  # the empty one
    (row,) = report.rows([record])
    assert row[:2] == ["one process", "300"] and row[3:] == ["300", "0", "0", "0", "0"]
    assert len(row) == report.HEAD.count("|") - 1


def test_rows_are_the_same_each_time(tmp_path: Path) -> None:
    ids = [write_rows(tmp_path / name, 50) for name in ("one", "two")]
    assert ids[0] == ids[1] and len(set(ids[0])) == 50
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert len(files[0]) == 5
    assert [each.read_bytes() for each in files[0]] == [each.read_bytes() for each in files[1]]


def test_what_is_lost_twice_or_different_is_counted(tmp_path: Path) -> None:
    ids = ["a", "b", "c", "d"]
    error = [None, None, None, "empty"]
    write(tmp_path / "one" / "part.parquet", {"key": ids, "answer": [[1.0], [2.0], [3.0], None], "error": error})
    found = {"key": ["a", "b", "b", "e"], "answer": [[1.0], [2.5], [2.5], [3.0]], "error": [None, None, None, None]}
    write(tmp_path / "two" / "part.parquet", found)
    counts = compared(ids, tmp_path / "two", tmp_path / "one")
    assert {name: counts[name] for name in ("rows", "keys", "lost", "twice", "strange", "different")} == {
        "rows": 4,
        "keys": 3,
        "lost": 2,
        "twice": 1,
        "strange": 1,
        "different": 1,
    }
    assert counts["largest_difference"] == 0.5
    assert counts["other_errors"] == 1 + 2  # d has no error, c and e have an answer on one side
    assert wrong(counts) and not wrong(compared(ids, tmp_path / "one", tmp_path / "one"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_a_descendant_that_runs_the_task_is_killed() -> None:
    # The name is the first word of the command line, as Ray sets it.
    sleeps = [subprocess.Popen([name, "60"], executable="/bin/sleep") for name in ("ray::test_task()", "ray::IDLE")]
    try:
        end = time.monotonic() + 30
        while not all(command(sleep.pid).startswith("ray::") for sleep in sleeps):  # a moment after it has begun
            assert time.monotonic() < end
            time.sleep(0.001)
        killed = kill_one("ray::test_task")
        assert killed == sleeps[0].pid
        assert wait_until_gone(killed, 30)
        assert kill_one("ray::test_task") is None
        assert not wait_until_gone(sleeps[1].pid, 0.05)
    finally:
        for sleep in sleeps:
            sleep.kill()
            sleep.wait()
