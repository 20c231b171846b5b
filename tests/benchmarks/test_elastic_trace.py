"""Bursts before a server, on a simulated clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.studies.elastic.servers import Level, Trace, serve
from benchmarks.studies.elastic.trace_report import LOADS, rows

pytest.importorskip("timm")
from benchmarks.studies.elastic import service, trace

ONE = Level(1, (90.0, 90.0), (1, 4), (1.0, 1.6))
TWO = Level(2, (80.0, 80.0), (1, 4), (1.0, 1.6))


def test_rows_come_in_bursts_at_the_mean_rate() -> None:
    bursty = Trace(rate=50.0, burst=5.0, calm=2.0, busy=0.5, seconds=2000.0)
    steady = bursty._replace(burst=1.0)
    arrivals = bursty.arrivals(0)
    assert np.array_equal(arrivals, bursty.arrivals(0)) and not np.array_equal(arrivals, bursty.arrivals(1))
    assert (np.diff(arrivals) >= 0).all() and len(arrivals) / 2000 == pytest.approx(50, rel=0.1)

    def spread(times: Any) -> float:
        counts = np.histogram(times, 4000)[0]
        return float(counts.var() / counts.mean())

    assert spread(steady.arrivals(0)) == pytest.approx(1, rel=0.1) and spread(arrivals) > 5  # a Poisson process has 1


def test_a_pass_takes_what_waits_and_a_late_answer_is_counted() -> None:
    arrivals = np.array([0.0, 0.1, 0.2, 0.3])
    served = serve([ONE], 4, arrivals, deadline=2.15)
    # The first one goes alone and is back at 1.0; the others share a pass that takes 1.4, to 2.4: 2.3, 2.2 and 2.1 after them.
    assert served.missed == 0.5 and served.shares == (1.0,)


def test_a_queue_too_long_for_a_pass_at_n_1_is_answered_at_n_2() -> None:
    arrivals = np.array([0.0, 0.1, 0.2, 0.3])
    served = serve([ONE, TWO], 2, arrivals, deadline=2.4)
    assert served.shares == (0.25, 0.75) and served.missed == 0.0  # two mixtures of two and one row, 1.2 long
    plain = serve([ONE, TWO._replace(mixed=False)], 2, arrivals, deadline=2.4)
    assert plain.missed == 0.0 and serve([ONE, TWO._replace(mixed=False)], 2, arrivals, 2.25).missed == 0.25


def test_times_and_scores_become_a_table_and_a_picture(tmp_path: Path) -> None:
    records = service.measure(2, 0.0, mixtures=(1, 2))
    assert {(r["model"], r["n"]) for r in records} == {
        *(("elastic", n) for n in (1, 2, 4, 8)),
        *((name, 1) for name in ("teacher", *trace.RIVALS)),
    }
    assert all(len(r["seconds"]) == 2 and min(r["seconds"]) > 0 for r in records)
    scores: list[dict[str, Any]] = [{"training": name, "n": 1, "select": 80.0, "test": 79.0} for name in trace.RIVALS]
    for training in ("sandwich", "alone"):
        scores += [{"training": training, "n": n, "select": 85.0 - n, "test": 84.0 - n} for n in (1, 2, 4, 8)]
    scores.append({"training": "teacher", "n": 1, "select": 85.0, "test": 84.0})
    for name, found in (("scores", scores), ("times", records)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"records": found}))
    options = [f"--{name}={tmp_path / name}.json" for name in ("scores", "times", "results")]
    trace.main([*options, "--images", str(tmp_path), "--seconds", "0.5"])
    found = json.loads((tmp_path / "results.json").read_text())["records"]
    assert len(found) == len(LOADS) * 10 and (tmp_path / "elastic-trace.png").stat().st_size > 0
    assert all(sum(r["shares"].values()) == pytest.approx(1) for r in found)
    assert len(rows(found)) == 10 and rows(found)[0][0] == trace.BARE


def test_an_accuracy_is_shown_where_few_answers_are_late() -> None:
    found = [{"server": "a", "load": 0.5, "missed": 0.005, "accuracy": 86.44}]
    found += [{"server": "a", "load": 1.0, "missed": 0.2, "accuracy": 86.0}]
    assert rows(found) == [["a", "–", "86.4", "–", "late: 20%", "–", "–"]]
