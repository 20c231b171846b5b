"""A server under load, with the bare model, n=8 and elastic n; for some minutes, with its memory; or with its faults.

    python -m benchmarks.serving                  # docs/results/serving.json and a table
    python -m benchmarks.serving --requests 100   # a try
    python -m benchmarks.serving --soak 10        # memory over ten minutes
    python -m benchmarks.serving --faults 100     # what goes wrong around a server, each kind a hundred times

Every server has a worker with one thread per core, and the number of mixtures per pass that it is fastest with. Load is put
on 127.0.0.1 alone, and its clients share the cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, merge_records
from benchmarks.serving.app import serving
from benchmarks.serving.injecting import faults
from benchmarks.serving.judge import differing
from benchmarks.serving.load import Load, drive
from benchmarks.serving.memory import megabytes, processor, slope
from benchmarks.serving.report import faults_table, soaks, table
from benchmarks.serving.subject import SIZES, Subject

REPORTS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "serving": table,
    "serving_soak": lambda records: "\n".join(soaks(records)),
    "serving_faults": faults_table,
}
SERVERS: dict[str, dict[str, Any]] = {
    "bare": {"wrapped": False},
    "n=8": {"wrapped": True, "n_min": SIZES[-1]},
    "elastic": {"wrapped": True},
}


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    args, found = _arguments(argv), []
    for record in _records(args):  # each is kept as soon as it is there
        found.append(record)
        merge_records(args.out / f"{args.study}.json", args.study, [record], key="name", command=_command(argv))
    print(REPORTS[args.study](found))
    return found


def _records(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if args.study == "serving_faults":
        yield from faults(args.faults)
        return
    for layers, width in args.models:
        subject = Subject(layers, width, args.length)
        yield from [soak(subject, args)] if args.study == "serving_soak" else compare(subject, args)


def compare(subject: Subject, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every server with many clients, and with few, for whom n has no reason to be large."""
    texts = subject.texts(args.requests)
    wrapped, tokenizer = subject.model(True), subject.tokenizer()
    fastest = {name: best(subject, name, args) for name in ("bare", "n=8")}
    for name, options in SERVERS.items():
        n_max, mixtures = n_max_of(name), fastest["bare" if name == "bare" else "n=8"]
        for clients in (args.clients, args.few):
            sent = texts if clients == args.clients else texts[: max(1, args.requests // 10)]
            print(f"{subject.name}, {name}, {clients} clients, {mixtures} mixtures per pass", file=sys.stderr)
            with serving(subject, mixtures=mixtures, **_waiting(args), **options) as (address, process):
                before = processor(process)
                load = drive(address, sent, clients)
                cores = _cores(process, before, load)
            unequal, gap = differing(wrapped, tokenizer, sent, load.answers) if options["wrapped"] else (None, None)
            yield {
                "name": f"{name}, {clients} clients, {subject.name}",
                "server": name,
                "model": subject.name,
                "clients": clients,
                "workers": args.workers,
                "mixtures": mixtures,
                "n_max": n_max,
                **load.record(),
                "core_ms_per_request": cores,
                "unequal": unequal,
                "largest_difference": gap,
            }


def _cores(process: int, before: Mapping[int, float], load: Load) -> dict[str, float]:
    """Return the milliseconds of a core that a request took in the server's process, in its workers and in the clients."""
    taken = {each: seconds - before.get(each, 0.0) for each, seconds in processor(process).items()}
    front = taken.pop(process)
    parts = {"server": front, "workers": sum(taken.values()), "clients": load.processor}
    return {name: 1000 * seconds / max(1, len(load.answers)) for name, seconds in parts.items()}


def n_max_of(name: str) -> int:
    return SIZES[-1] if SERVERS[name]["wrapped"] else 1


def best(subject: Subject, name: str, args: argparse.Namespace) -> int:
    """Return the mixtures per pass with which a server answers most requests; more than the clients' rows fill none."""
    n_max = n_max_of(name)
    found: dict[int, float] = {}
    texts = subject.texts(args.trial)
    for rows in args.batches:
        if rows % n_max or rows > max(args.clients, n_max):
            continue
        with serving(subject, mixtures=rows // n_max, **_waiting(args), **SERVERS[name]) as (address, _):
            drive(address, texts[: args.clients], args.clients)  # a first round, for what is set up late
            found[rows // n_max] = drive(address, texts, args.clients).record()["per_second"]
        print(f"{name}, {rows} rows per pass: {found[rows // n_max]:.1f} requests/s", file=sys.stderr)
    return max(found, key=found.__getitem__)


def soak(subject: Subject, args: argparse.Namespace) -> dict[str, Any]:
    """Keep a server of n=8 busy, and note the memory of its processes every ten seconds."""
    texts, samples = subject.texts(min(args.requests, 1000)), []
    with serving(subject, **_waiting(args), **SERVERS["n=8"]) as (address, process), ThreadPoolExecutor(1) as thread:
        start = time.monotonic()
        running = thread.submit(drive, address, texts, args.clients, until=start + 60 * args.soak)
        while not running.done():
            time.sleep(min(10.0, 6 * args.soak))
            samples.append((time.monotonic() - start, megabytes(process)))
        load = running.result()
    later = [sample for sample in samples if sample[0] >= 60 * args.soak * 0.2]  # the rest is warming up
    return {
        "name": f"soak, {subject.name}",
        "server": "n=8",
        "model": subject.name,
        "clients": args.clients,
        "minutes": args.soak,
        "requests": len(load.seconds),
        "failures": dict(load.failures),
        "megabytes": [round(value, 1) for _, value in samples],
        "growth_mb_per_minute": 60 * slope(*zip(*later, strict=True)) if len(later) > 1 else None,
    }


def _waiting(args: argparse.Namespace) -> dict[str, Any]:
    return {"max_wait": args.max_wait_ms / 1000, "timeout": 120.0, "workers": args.workers, "threads": args.threads}


def _command(argv: Sequence[str] | None) -> str:
    return " ".join(["python -m benchmarks.serving", *(sys.argv[1:] if argv is None else argv)])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--few", type=int, default=2, help="clients of the quiet run")
    parser.add_argument("--trial", type=int, default=200, help="requests to find the best batch with")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 24, 32, 48], help="rows of a pass to try"
    )
    parser.add_argument("--models", type=_sizes, nargs="+", default=[(6, 384), (12, 768)], metavar="LAYERSxWIDTH")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes with the model; by default one per core"
    )
    parser.add_argument(
        "--threads", type=int, default=None, help="of torch in a worker; by default the cores are shared"
    )
    parser.add_argument("--max-wait-ms", type=float, default=20.0)
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument(
        "--faults", type=int, default=0, metavar="COUNT", help="of a kind; slow kinds are injected less often"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args(argv)
    args.study = "serving_soak" if args.soak else "serving_faults" if args.faults else "serving"
    return args


def _sizes(words: str) -> tuple[int, int]:
    layers, width = words.split("x")
    return int(layers), int(width)


if __name__ == "__main__":
    main()
