"""``python -m benchmarks.fuzz --minutes 60 --seed 0``: random models wrapped, and what was found as JSON."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.fuzz.judge import Outcome, judge, smallest
from benchmarks.fuzz.plan import Plan, draw
from benchmarks.fuzz.source import code_of

COUNTS = (1, 2, 3)


def main(argv: list[str] | None = None) -> int:
    """Run until the time is over, and return how many faults were found (at most 1)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="for how long (60)")
    parser.add_argument("--models", type=int, help="stop after so many models")
    parser.add_argument("--seed", type=int, default=0, help="of the first model; the others follow it (0)")
    parser.add_argument("--out", type=Path, default=results.ROOT / "build" / "fuzz.json", help="the file to write")
    options = parser.parse_args(argv)
    end = time.monotonic() + 60 * options.minutes
    records: list[dict[str, Any]] = []
    seen: Counter[tuple[str, str]] = Counter()
    with closing(Judge()) as judged:
        for seed in itertools.islice(itertools.count(options.seed), options.models):
            if time.monotonic() > end:
                break
            plan = draw(seed)
            for n in COUNTS:
                outcome = judged(plan, n)
                seen[outcome.kind, outcome.law] += 1
                records.append(_record(plan, n, outcome, judged, new=seen[outcome.kind, outcome.law] <= 3))
            if (seed - options.seed) % 100 == 99:
                _write(options.out, records, seen)
    _write(options.out, records, seen)
    for (kind, law), count in sorted(seen.items()):
        print(f"{count:6}  {kind} {law}")
    return int(any(kind in ("fault", "unfit") for kind, _ in seen))


class Judge:
    """Judges in a process of its own, so that a crash of that is a fault like others."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, plan: Plan, n: int) -> Outcome:
        """Return what became of a plan."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,))
        try:
            return self._pool.submit(judge, plan, n).result()
        except BrokenProcessPool as error:
            self._pool = None
            return Outcome("fault", "the process survives", str(error))

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()


def _record(plan: Plan, n: int, outcome: Outcome, judged: Judge, new: bool) -> dict[str, Any]:
    """Return what is kept: of a fault seen for the first times, also the smallest model that has it, as Python."""
    record = {"name": f"{plan.seed} n={n}", "n": n, "plan": plan.to_dict(), **vars(outcome)}
    if outcome.kind == "fault" and new:
        small = smallest(plan, n, outcome.law, judged)
        record |= {"smallest": small.to_dict(), "code": code_of(small), "shown": judged(small, n).message}
    return record


def _write(path: Path, records: list[dict[str, Any]], seen: Counter[tuple[str, str]]) -> None:
    """Keep plans of faults and unfit models; of the others how many there were."""
    kept = [record for record in records if record["kind"] in ("fault", "unfit")]
    counts = [{"name": f"{kind} {law}".strip(), "count": count} for (kind, law), count in sorted(seen.items())]
    refusals = Counter(str(record["message"])[-300:] for record in records if record["kind"] == "refused")
    told = [{"name": "refusal", "count": count, "message": message} for message, count in refusals.most_common()]
    results.write(path, "fuzz", [*counts, *told, *kept])


if __name__ == "__main__":
    sys.exit(main())
