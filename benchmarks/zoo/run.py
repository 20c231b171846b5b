"""The zoo: wrap every architecture of the catalogues at n=2, forward 3 rows, backward, unwrap.

Every entry runs in a process of its own, forked from this one. ``make zoo`` runs all and writes docs/results/zoo.json; a
run of some (``make zoo ARGS="--family timm"``) replaces their records only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from benchmarks import results
from benchmarks.zoo import catalogue_transformers, catalogue_vision
from benchmarks.zoo.catalogue import Entry, check

RESULTS = results.ROOT / "docs" / "results" / "zoo.json"
FAMILIES = ("timm", "torchvision", "image", "sequence", "token")
FORK = multiprocessing.get_context("fork")


def main() -> int:
    """Run what the command line asks for."""
    arguments = _arguments()
    chosen = [e for e in entries() if _wanted(e, arguments)]
    if not chosen:
        print("no entry fits --family and --only", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # an untrained network's fading activations would take minutes
    transformers.logging.set_verbosity_error()
    tqdm.monitor_interval = 0  # no thread beside the one that forks
    saved = results.read_records(arguments.output)
    records: list[dict[str, Any]] = []
    try:
        for record in tqdm(_run(chosen, arguments.workers, arguments.timeout), total=len(chosen), unit="model"):
            records.append(record)
            if not record["works"]:
                tqdm.write(f"{record['family']:>12} {record['name']}: {record['reason']}", file=sys.stderr)
        if len(chosen) == len(entries()):
            saved = []  # drops what is no longer in a catalogue
    finally:
        records = _merged(saved, records)
        results.write(arguments.output, "zoo", records, command="make zoo")
    _print_summary(records)
    return 0


def entries() -> list[Entry]:
    """Return every entry of every catalogue."""
    return [*catalogue_vision.entries(), *catalogue_transformers.entries()]


# -- processes --------------------------------------------------------------------------------------------------------


@dataclass
class _Running:
    entry: Entry
    process: Any
    pipe: Connection
    deadline: float


def _run(chosen: list[Entry], workers: int, timeout: float) -> Iterator[dict[str, Any]]:
    """Run entries in forked processes, ``workers`` at a time, and yield their records as they are done."""
    waiting, running = list(reversed(chosen)), []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(_start(waiting.pop(), timeout))
        wait([one.pipe for one in running], timeout=1.0)
        for one in [one for one in running if one.pipe.poll() or time.monotonic() > one.deadline]:
            running.remove(one)
            yield _record(one.entry, _collect(one, timeout))


def _start(entry: Entry, timeout: float) -> _Running:
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_work, args=(entry, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(entry, process, ours, time.monotonic() + timeout)


def _work(entry: Entry, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    try:
        pipe.send({"works": True, "reason": "", **check(entry)})
    except Exception as error:
        pipe.send({"works": False, "reason": _short(f"{type(error).__name__}: {error}")})


def _short(message: str) -> str:
    """Return the first two lines of a message that may list all that was tried."""
    return " ".join(" ".join(message.strip().splitlines()[:2]).split())[:500]


def _collect(one: _Running, timeout: float) -> dict[str, Any]:
    try:
        if one.pipe.poll():
            return one.pipe.recv()
        return {"works": False, "reason": f"takes more than {timeout:g} s"}
    except EOFError:
        return {"works": False, "reason": "the process died (out of memory?)"}
    finally:
        one.process.kill()
        one.process.join()
        one.pipe.close()


def _record(entry: Entry, outcome: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(("model", "parameters", "works", "reason", "mux", "demux", "strategy", "demuxer", "seconds"))
    if not outcome["works"] and entry.exception:
        outcome = {**outcome, "reason": entry.exception}
    return {"family": entry.family, "name": entry.name, **empty, **outcome}


# -- results ----------------------------------------------------------------------------------------------------------


def _merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    records = {(record["family"], record["name"]): record for record in (*old, *new)}
    return sorted(records.values(), key=lambda record: (FAMILIES.index(record["family"]), record["name"]))


def _print_summary(records: list[dict[str, Any]]) -> None:
    print(f"{'family':<12} {'work':>5} {'of':>5}")
    for family in FAMILIES:
        own = [record for record in records if record["family"] == family]
        if own:
            print(f"{family:<12} {sum(record['works'] for record in own):>5} {len(own):>5}")


def _wanted(entry: Entry, arguments: argparse.Namespace) -> bool:
    return (
        arguments.family in (None, entry.family)
        and re.search(arguments.only, f"{entry.family}/{entry.name}") is not None
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, help="one family only")
    parser.add_argument("--only", default="", metavar="REGEX", help="entries whose family/name matches")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="for one entry (default: 120)")
    parser.add_argument("--workers", type=int, default=2, choices=(1, 2), help="processes at a time (default: 2)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: docs/results/zoo.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
