"""``python -m benchmarks.fuzz.machine --minutes 60``: a wrapped model is treated in any order, and what was found as JSON."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks import results
from benchmarks.fuzz.orders import Machine


def run(examples: int, steps: int, phases: Sequence[Phase] = (Phase.generate, Phase.shrink)) -> None:
    """Run so many examples of so many steps; what fails is made smaller, and raised.

    Raises:
        Exception: what failed.
    """
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(Machine, settings=chosen)


def main(argv: list[str] | None = None) -> int:
    """Run until the time is over, write what was seen, and return how many faults were found (at most 1)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.machine", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="for how long (60)")
    parser.add_argument("--steps", type=int, default=40, help="of a run, at most (40)")
    parser.add_argument("--out", type=Path, default=results.ROOT / "docs" / "results" / "machine.json")
    options = parser.parse_args(argv)
    end = time.monotonic() + 60 * options.minutes
    faults: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() < end and len(faults) < 5:
            try:
                run(5, options.steps)
            except Exception as error:
                faults.append({"name": f"fault {len(faults)}", "message": "".join(traceback.format_exception(error))})
    seen = {"name": "machine", "minutes": options.minutes, **Machine.seen, "faults": len(faults)}
    results.write(options.out, "machine", [seen, *faults])
    print(seen, *(fault["message"] for fault in faults), sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
