"""What looking for bad rows costs: the same calls with and without ``check_finite``, in turn.

    python -m benchmarks.speed.check_finite [--rounds 41] [--threads N] [--compiled]
    MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 python -m benchmarks.speed.check_finite --compiled

With the two settings glibc keeps large pieces of memory and does not ask the system for them in every call.

A round times a call of each mode, one after the other, in an order that changes; a share is the median over rounds of the
time within a round relative to that without, less 1. Writes docs/results/check_finite.json; a model that is not run keeps its
record.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.results import ROOT, merge_records
from muxwrap import Multiplex

MODES = (False, "raise", "isolate")
MIXTURES = 8
KEPT = "MALLOC_TRIM_THRESHOLD_"  # with it, memory that is free stays with the process


def _images() -> tuple[nn.Module, Callable[[int], Any], Any]:
    import timm

    return timm.create_model("resnet18"), lambda rows: torch.randn(rows, 3, 224, 224), torch.zeros(1, 3, 224, 224)


def _text(length: int) -> tuple[nn.Module, Callable[[int], Any], Any]:
    import transformers

    config = transformers.BertConfig(num_hidden_layers=12)
    return (
        transformers.BertForSequenceClassification(config),
        lambda rows: torch.randint(1000, (rows, length)),
        torch.zeros(1, length, dtype=torch.long),
    )


MODELS: dict[str, Callable[[], Any]] = {
    "ResNet-18, 224 x 224": _images,
    "BERT-base, 32 tokens": partial(_text, 32),
    "BERT-base, 128 tokens": partial(_text, 128),
}


def measure(made: Any, n: int, rounds: int, compiled: bool) -> dict[str, float]:
    """Return the time of a call without a look, and what each mode adds, as a share of it."""
    torch.manual_seed(0)
    backbone, batch, example = made
    model = muxwrap.wrap(backbone, n, example_input=example).eval()
    torch.compiler.reset()  # what other models were compiled to counts against the limit of recompilations
    call: Any = torch.compile(model) if compiled else model
    x = batch(MIXTURES * n)
    for mode in MODES:
        _timed(model, call, x, mode)
    times = []
    for k in range(rounds):
        order = random.Random(k).sample(MODES, len(MODES))
        of_round = {mode: _timed(model, call, x, mode) for mode in order}
        times.append(of_round)
    shares = {mode: median(each[mode] / each[False] for each in times) - 1 for mode in MODES[1:]}
    return {"seconds": median(each[False] for each in times), **{f"{mode}": share for mode, share in shares.items()}}


def _timed(model: Multiplex, call: Any, x: Tensor, mode: Any) -> float:
    model.check_finite = mode
    with torch.inference_mode():
        start = time.perf_counter()
        call(x)
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--n", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "check_finite.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    for name in args.only:
        for n in args.n:
            found = measure(MODELS[name](), n, args.rounds, args.compiled)
            kept = KEPT in os.environ
            how = ", compiled" * args.compiled + ", memory kept" * kept
            record = {
                "name": f"{name}, n={n}{how}",
                "model": name,
                "n": n,
                "compiled": args.compiled,
                "memory_kept": kept,
            }
            record |= {"threads": args.threads, "rounds": args.rounds, **found}
            print(record, flush=True)
            command = "python -m benchmarks.speed.check_finite" + (" --compiled" if args.compiled else "")
            merge_records(args.out, "check_finite", [record], key="name", command=command)


if __name__ == "__main__":
    main()
