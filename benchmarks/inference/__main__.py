"""Rows answered by one process and by Ray with 1 and 2 workers, and once more with a worker killed in the middle.

    python -m benchmarks.inference [--rows 100000]

Every process computes with one thread. Writes docs/results/inference.json. A run's seconds are from the call to the end, with
the reading of the input; Ray and its workers run before. Exits with 1 if a row is lost, or there twice, or another answer.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.inference.compare import compared
from benchmarks.inference.data import Bytes, make_model, write_rows
from benchmarks.inference.killing import Killer
from benchmarks.results import ROOT, write
from muxwrap.inference import Texts, predict

RESULTS = ROOT / "docs" / "results" / "inference.json"
TOLERANCE = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--part", type=int, default=4096, help="rows of a part")
    parser.add_argument("--n", type=int, default=8, help="rows of a mixture")
    parser.add_argument("--dim", type=int, default=256, help="features of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="of Ray; none for one process alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        records = measure(Path(folder), options)
    for record in records:
        print(record)
    write(options.results, "inference", records)
    return int(any(wrong(record) for record in records))


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    ids = write_rows(folder / "rows", options.rows)
    model = make_model(options.n, options.dim, options.layers)
    facts = {"n": options.n, "part": options.part, "dim": options.dim, "layers": options.layers}

    def run(name: str, workers: int, kill: bool = False) -> dict[str, Any]:
        out = folder / name
        killer = Killer(out, 2)
        if kill:
            killer.start()
        ray: dict[str, Any] = {"ray": True, "workers": workers} if workers else {}
        found = predict(model, folder / "rows", out, Texts(Bytes()), key="id", part=options.part, **ray)
        killer.ended.set()
        if kill:
            killer.join()
        counts = compared(ids, out, folder / "one process")
        speed = {"seconds": found.seconds, "rows_per_second": found.rows / found.seconds}
        return {"name": name, "workers": workers, "killed": int(killer.killed is not None), **speed, **counts, **facts}

    records = [run("one process", 0)]
    if options.workers:
        start(max(options.workers))
        write_rows(folder / "few", 64 * max(options.workers))
        few = {"part": 16, "ray": True, "workers": max(options.workers), "progress": False}
        predict(model, folder / "few", folder / "warm-up", Texts(Bytes()), **few)
        names = [f"Ray, {workers} worker{'s' * (workers > 1)}" for workers in options.workers]
        records += [run(name, workers) for name, workers in zip(names, options.workers, strict=True)]
        records.append(run(f"{names[-1]}, one killed", options.workers[-1], kill=True))
        if not records[-1]["killed"]:
            raise SystemExit("no worker was killed: the run was over before; take more rows or smaller parts")
    return records


def wrong(record: dict[str, Any]) -> bool:
    """Whether a run lost a row, or answered one twice or otherwise than one process."""
    counted = any(record[name] for name in ("lost", "twice", "strange", "other_errors"))
    return counted or record["keys"] != record["rows"] or record["largest_difference"] > TOLERANCE


def start(workers: int) -> None:
    """Start Ray on this machine, without telling anybody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    import ray

    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


if __name__ == "__main__":
    raise SystemExit(main())
