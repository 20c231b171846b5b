"""Where the speed-up bends: instances, length, width and depth; memory, the share of mixing, training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch

import muxwrap
from benchmarks.speed.bound import LENGTH, Progress, bert, records, text
from muxwrap._util.examples import with_rows
from muxwrap.throughput import measure

SMALL = {"rounds": 3, "seconds": 0.2, "mixtures": (1, 4, 16)}


def growth(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """One thing at a time, around 6 layers, d=384, L=64, N=16."""
    cells: list[dict[str, Any]] = []
    sizes: dict[str, list[tuple[int, int, int, tuple[int, ...]]]] = {
        "growth_n": [(6, 384, 64, (2, 4, 8, 16, 32, 64))],
        "growth_length": [(6, 384, length, (16,)) for length in (16, 32, 64, 128, 256, 512)],
        "growth_depth": [(layers, 384, 64, (16,)) for layers in (2, 4, 8, 12)],
        "growth_width": [(6, width, 64, (16,)) for width in (128, 256, 512, 768)],
    }
    for study, cases in sizes.items():
        for layers, width, length, counts in cases:
            progress(f"{study} {layers}x{width} L={length}")
            report = measure(bert(layers, width), counts, example_input=text(length), **SMALL)
            labels = {"backbone": f"BERT {layers}x{width}", "layers": layers, "width": width}
            cells += records(report, study, length=length, **labels)[1:]
    return cells


def batch(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Mixtures in a call at N=16, against the bare model at as many rows: 6 layers, d=384, L=64."""
    cells: list[dict[str, Any]] = []
    for size in (1, 2, 4, 8, 16, 32, 64):
        progress(f"{size} mixtures")
        options = {**SMALL, "mixtures": (size,)}
        report = measure(bert(6, 384), (16,), example_input=text(64), **options)
        cells += records(report, "batch", backbone="BERT 6x384", length=64, mixtures=size)[1:]
    return cells


def memory(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Peak memory of a forward pass beyond weights, at 16 sequences and 16 mixtures."""
    progress("memory")
    report = measure(bert(), (40,), example_input=text(), rounds=1, mixtures=(16,))
    cells = records(report, "memory", backbone="BERT 12x768", length=LENGTH)
    for cell in cells:
        cell["memory_ratio"] = cells[0]["activation_bytes"] / cell["activation_bytes"]
    return cells


def share(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """What part of a step is spent in mixing and separating."""
    model = muxwrap.wrap(bert(), 40, example_input=text()).eval()
    cells = []
    for mixtures in (1, 4, 8):
        progress(f"share of mixing, {mixtures} mixtures")
        inputs = with_rows(text(), 40 * mixtures)
        with torch.inference_mode(), _timed(model) as spent:
            model(**inputs)
            spent.clear()
            start = time.perf_counter()
            for _ in range(8):
                model(**inputs)
            whole = time.perf_counter() - start
        shares = {f"{name}_share": spent[name] / whole for name in ("mix", "separate")}
        labels = {"study": "share", "backbone": "BERT 12x768", "name": f"n=40, {mixtures} mixtures", "n": 40}
        cells.append({**labels, **shares, "share": sum(shares.values()), "strategy": "slots", "demux": "mlp"})
    return cells


@contextmanager
def _timed(model: muxwrap.Multiplex) -> Any:
    """Time what the strategy and the demuxer do, by name."""
    spent: dict[str, float] = {}

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = call(*args, **kwargs)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed

    owners = {"mix": (model.strategy, "part"), "separate": (model.demuxer, "forward")}
    for name, (module, method) in owners.items():
        module.__dict__[method] = watch(name, getattr(module, method))
    try:
        yield spent
    finally:
        for module, method in owners.values():
            del module.__dict__[method]


def training(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Forward and backward, 6 layers, d=384, L=64."""
    report = measure(
        bert(6, 384),
        (2, 5, 10, 20, 40),
        example_input=text(64),
        train=True,
        rounds=3,
        mixtures=(2, 8),
        progress=progress,
    )
    return records(report, "training", backbone="BERT 6x384", length=64)
