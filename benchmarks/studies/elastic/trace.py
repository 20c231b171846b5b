"""Bursts of requests before a server with one model: elastic, of one n, plain, or two plain ones in turn.

    python -m benchmarks.studies.elastic.trace

The clock is simulated. What a pass takes was measured (:mod:`benchmarks.studies.elastic.service`), and how accurate a model
is at an n as well (:mod:`benchmarks.studies.elastic.study`). Each server has the largest pass with which it is most
accurate among those with which at most a hundredth of the answers is late, chosen on other arrivals and images than are
reported; where there is none, the pass with the fewest late answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results import ROOT, read_records, write
from benchmarks.studies.elastic.models import RIVALS, SIZES
from benchmarks.studies.elastic.servers import Level, Served, Trace, serve
from benchmarks.studies.elastic.trace_report import LATE, LOADS

RESULTS = ROOT / "docs" / "results"
PASSES = (4, 8, 16, 32, 64)  # most mixtures of a pass
DEADLINE = 0.1  # seconds
BURSTS = {"burst": 3.0, "calm": 2.0, "busy": 0.5}
CHOOSING, REPORTED = 0, 1  # seeds of the arrivals
BARE = "the trained model"


def servers(scores: Sequence[Mapping[str, Any]], times: Sequence[Mapping[str, Any]]) -> dict[str, list[Level]]:
    """Return the levels of every server by its name."""

    def level(training: str, n: int, model: str, room: int | None = None) -> Level:
        own = [r for r in scores if (r["training"], r["n"]) == (training, n)]
        time = next(r for r in times if (r["model"], r["n"]) == (model, n))
        accuracy = (fmean(r["select"] for r in own), fmean(r["test"] for r in own))
        return Level(room or n, accuracy, tuple(time["mixtures"]), tuple(time["seconds"]), room is None)

    whole = level("teacher", 1, "teacher")
    return {
        BARE: [whole],
        "elastic": [level("sandwich", n, "elastic") for n in SIZES],
        **{f"n={n} alone": [level("alone", n, "elastic")] for n in SIZES if n > 1},
        **{f"plain, {name}": [level(name, 1, name)] for name in RIVALS},
        "plain, all or 2 of 4 blocks": [whole, level("2 of 4 blocks", 1, "2 of 4 blocks", 2)],
    }


def capacity(level: Level) -> float:
    """Return the rows per second of the best pass."""
    return max(level.n * size / seconds for size, seconds in zip(level.sizes, level.seconds, strict=True))


def accuracy(levels: Sequence[Level], served: Served, split: int) -> float:
    """Return the accuracy of the answers in percent: 0 of the rows that choose, 1 of those that are reported."""
    return sum(share * level.accuracy[split] for share, level in zip(served.shares, levels, strict=True))


def measure(name: str, levels: Sequence[Level], trace: Trace, load: float, deadline: float) -> dict[str, Any]:
    """Choose the largest pass and return the record of the reported arrivals."""

    def worth(mixtures: int) -> tuple[bool, float]:
        served = serve(levels, mixtures, trace.arrivals(CHOOSING), deadline)
        fits = served.missed <= LATE
        return fits, accuracy(levels, served, CHOOSING) if fits else -served.missed

    mixtures = max(PASSES, key=worth)
    served = serve(levels, mixtures, trace.arrivals(REPORTED), deadline)
    return {
        "key": f"{name}/load={load:g}",
        "server": name,
        "load": load,
        **trace._asdict(),
        "deadline": deadline,
        "mixtures": mixtures,
        "missed": served.missed,
        "shares": {str(level.n): share for level, share in zip(levels, served.shares, strict=True)},
        "accuracy": accuracy(levels, served, REPORTED),
    }


def main(argv: list[str] | None = None) -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--scores", type=Path, default=RESULTS / "elastic.json", help="accuracy of every model and n")
    made.add_argument("--times", type=Path, default=RESULTS / "elastic_service.json", help="what passes take")
    made.add_argument("--results", type=Path, default=RESULTS / "elastic_trace.json")
    made.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the picture")
    made.add_argument("--seconds", type=float, default=120, help="simulated, of a trace")
    args = made.parse_args(argv)
    found = servers(read_records(args.scores), read_records(args.times))
    records = []
    for load in LOADS:
        trace = Trace(load * capacity(found[BARE][0]), **BURSTS, seconds=args.seconds)
        for name, levels in found.items():
            records.append(measure(name, levels, trace, load, DEADLINE))
            print(
                "{key:44} {accuracy:.2f} %, late {missed:.2%}, passes of {mixtures}".format(**records[-1]), flush=True
            )
    write(args.results, "elastic_trace", records, "python -m benchmarks.studies.elastic.trace")
    from benchmarks.studies.elastic.picture import draw

    draw(records, args.images / "elastic-trace.png")


if __name__ == "__main__":
    main()
