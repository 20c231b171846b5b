"""What a pass takes: the elastic model at every n beside the plain ones, by the number of mixtures.

    python -m benchmarks.studies.elastic.service [--threads 1]

Every model runs at every number of mixtures in every round, in alternating order, on one machine; the weights do not matter
to the time, so nothing is trained. :mod:`benchmarks.studies.elastic.trace` reads the times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.results import merge_records
from benchmarks.studies.common.command_line import parser, set_threads
from benchmarks.studies.elastic.models import AFTER, RIVALS, SIZES, transformer
from benchmarks.studies.vision.data import SIDES

MIXTURES = (1, 2, 4, 8, 16, 32, 64)
BARE = "teacher"
SIDE = SIDES["fashion-mnist"]


def models() -> Iterator[tuple[str, int, nn.Module]]:
    """Yield name, n and model, in evaluation mode: the plain one, its rivals, and the elastic one at every n."""
    bare = transformer(SIDE)
    elastic = muxwrap.wrap(
        transformer(SIDE), SIZES, "pool", mux_at=f"blocks.{AFTER - 1}", example_input=torch.zeros(1, 1, SIDE, SIDE)
    ).eval()
    yield BARE, 1, bare.eval()
    yield from ((name, 1, transformer(SIDE, shape).eval()) for name, shape in RIVALS.items())
    yield from (("elastic", n, elastic.fixed(n)) for n in SIZES)


@torch.inference_mode()
def seconds_of(model: nn.Module, images: Tensor, least: float) -> float:
    """Return the median time of a call, over ``least`` seconds of calls and three at least."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        start = time.perf_counter()
        model(images)
        times.append(time.perf_counter() - start)
    return median(times)


def measure(rounds: int, least: float, mixtures: Sequence[int] = MIXTURES) -> list[dict[str, Any]]:
    """Return a record for every model and n, with the seconds of a pass by its mixtures."""
    cells = [(name, n, size, model) for name, n, model in models() for size in mixtures]
    times: dict[tuple[str, int, int], list[float]] = {cell[:3]: [] for cell in cells}
    for _, n, size, model in cells:
        seconds_of(model, torch.randn(n * size, 1, SIDE, SIDE), 0.0)  # warms up
    for k in range(rounds):
        for name, n, size, model in cells if k % 2 == 0 else reversed(cells):
            times[name, n, size].append(seconds_of(model, torch.randn(n * size, 1, SIDE, SIDE), least))
        print(f"round {k + 1} of {rounds}", flush=True)
    return [
        {
            "key": f"{name}/n={n}",
            "model": name,
            "n": n,
            "mixtures": list(mixtures),
            "seconds": [median(times[name, n, size]) for size in mixtures],
            "rounds": rounds,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
        }
        for name, n in dict.fromkeys(cell[:2] for cell in cells)
    ]


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, data=None, results="elastic_service.json")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument(
        "--seconds", type=float, default=0.1, help="of a model and number of mixtures in a round, at least"
    )
    args = made.parse_args(argv)
    set_threads(args)
    records = measure(args.rounds, args.seconds)
    command = f"python -m benchmarks.studies.elastic.service --threads {torch.get_num_threads()}"
    merge_records(args.results, "elastic_service", records, key="key", command=command)
    for record in records:
        size, seconds = record["mixtures"][-1], record["seconds"][-1]
        print(f"{record['key']:20} {record['n'] * size / seconds:8.0f} images a second in passes of {size} mixtures")


if __name__ == "__main__":
    main()
