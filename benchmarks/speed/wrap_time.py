"""How long ``muxwrap.wrap(model, 2)`` takes, in forward passes of the bare model, and how much memory.

    python -m benchmarks.speed.wrap_time [--only NAME ...] [--rounds 3] [--threads N]

Every model is untrained, called with the example that wrap makes for it, and measured in a process of its own. A round times
one bare call of one row, one of three rows, and one wrap, in turn; a ratio is the median over rounds of the ratio within a
round. Three rows are what a dry run has, so ``passes`` is relative to those, and ``passes_of_one_row`` to one row. Writes
docs/results/wrap_time.json; models that are not run keep their records.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import muxwrap
from benchmarks.results import ROOT, merge_records
from muxwrap._util.examples import quiet, run, with_rows
from muxwrap.sites.examples import example_of

RESULTS = ROOT / "docs" / "results" / "wrap_time.json"
SPAWN = multiprocessing.get_context("spawn")  # memory of one model at a time


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name)


def _text(class_name: str, model_type: str, **config: Any) -> nn.Module:
    import transformers

    return getattr(transformers, class_name)(transformers.AutoConfig.for_model(model_type, **config))


_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": partial(_timm, "resnet50"),
    "ConvNeXt-B": partial(_timm, "convnext_base"),
    "ViT-B/16": partial(_timm, "vit_base_patch16_224"),
    "Swin-B": partial(_timm, "swin_base_patch4_window7_224"),
    "BERT-base": partial(_text, "BertForSequenceClassification", "bert"),
    "BERT-large": partial(_text, "BertForSequenceClassification", "bert", **_LARGE),
    "DeBERTa-v2": partial(_text, "DebertaV2ForSequenceClassification", "deberta-v2"),
    "T5 encoder": partial(_text, "T5EncoderModel", "t5"),
    "MobileNetV5": partial(_timm, "mobilenetv5_300m"),
}


def measure(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Return the record of one model; best called in a process that does nothing else."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    backbone = MODELS[name]().eval()
    example = example_of(backbone)
    times: list[tuple[float, float, float]] = []
    peak_bare, calls = 0.0, 0
    for _ in range(rounds):
        one = _seconds(partial(_forward, backbone, with_rows(example, 1)))
        three = _seconds(partial(_forward, backbone, example))
        peak_bare = peak_bare or _peak()
        seconds, calls = _wrap(backbone)
        times.append((one, three, seconds))
    return {
        "backbone": name,
        "n": 2,
        "passes": median(wrap / three for _, three, wrap in times),
        "passes_of_one_row": median(wrap / one for one, _, wrap in times),
        "calls": calls,
        "seconds": median(wrap for *_, wrap in times),
        "seconds_bare": median(three for _, three, _ in times),
        "gigabytes": _peak(),
        "gigabytes_bare": peak_bare,
        "rounds": rounds,
        "threads": threads,
    }


def _forward(backbone: nn.Module, example: Any) -> None:
    with quiet(backbone):
        run(backbone, example)


def _wrap(backbone: nn.Module) -> tuple[float, int]:
    """Wrap and unwrap; return the seconds of the first, and how often it called the backbone."""
    calls = 0

    def count(_module: nn.Module, _args: Any) -> None:
        nonlocal calls
        calls += 1

    handle = backbone.register_forward_pre_hook(count)
    start = time.perf_counter()
    model = muxwrap.wrap(backbone, 2)
    seconds = time.perf_counter() - start
    handle.remove()
    muxwrap.unwrap(model)
    return seconds, calls


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    records = []
    for name in args.only:
        with SPAWN.Pool(1) as pool:
            records.append(pool.apply(measure, (name, args.rounds, args.threads)))
        print(_line(records[-1]), flush=True)
        merge_records(
            args.results, "wrap_time", records[-1:], key="backbone", command="python -m benchmarks.speed.wrap_time"
        )
    passes = [record["passes"] for record in records]
    print(f"median {median(passes):.1f} passes of three rows, largest {max(passes):.1f}")


def _line(record: dict[str, Any]) -> str:
    return (
        f"{record['backbone']:12} {record['passes']:5.1f} passes of three rows, {record['passes_of_one_row']:5.1f} of one, "
        f"{record['calls']:3} calls, {record['seconds']:7.2f} s, {record['gigabytes']:.2f} GB "
        f"(bare {record['gigabytes_bare']:.2f})"
    )


if __name__ == "__main__":
    main()
