"""Where the speed-up bends: instances, length, width and depth; memory, the share of mixing, training, other arithmetic."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from torch import nn

import muxwrap
from benchmarks.speed.bound import LENGTH, bert, records, text
from muxwrap._util.examples import with_rows
from muxwrap.throughput import Configuration, compare, measure

Tell = Callable[[str], object]
SMALL = {"rounds": 3, "seconds": 0.2, "mixtures": (1, 4, 16)}


def growth(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
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
            tell(f"{study} {layers}x{width} L={length}")
            report = measure(bert(layers, width), counts, example_input=text(length), **SMALL)
            facts = {"backbone": f"BERT {layers}x{width}", "layers": layers, "width": width}
            cells += records(report, study, length=length, **facts)[1:]
    return cells


def batch(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Mixtures in a call at N=16, against the bare model at as many rows: 6 layers, d=384, L=64."""
    cells: list[dict[str, Any]] = []
    for size in (1, 2, 4, 8, 16, 32, 64):
        tell(f"{size} mixtures")
        options = {**SMALL, "mixtures": (size,)}
        report = measure(bert(6, 384), (16,), example_input=text(64), **options)
        cells += records(report, "batch", backbone="BERT 6x384", length=64, mixtures=size)[1:]
    return cells


def memory(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Peak memory of a forward pass beyond weights, at 16 sequences and 16 mixtures."""
    tell("memory")
    report = measure(bert(), (40,), example_input=text(), rounds=1, mixtures=(16,))
    cells = records(report, "memory", backbone="BERT 12x768", length=LENGTH)
    for cell in cells:
        cell["memory_ratio"] = cells[0]["activation_bytes"] / cell["activation_bytes"]
    return cells


def share(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """What part of a step is spent in mixing and separating."""
    model = muxwrap.wrap(bert(), 40, example_input=text()).eval()
    cells = []
    for mixtures in (1, 4, 8):
        tell(f"share of mixing, {mixtures} mixtures")
        inputs = with_rows(text(), 40 * mixtures)
        with torch.inference_mode(), _timed(model) as spent:
            model(**inputs)
            spent.clear()
            start = time.perf_counter()
            for _ in range(8):
                model(**inputs)
            whole = time.perf_counter() - start
        parts = {f"{name}_share": spent[name] / whole for name in ("mix", "separate")}
        facts = {"study": "share", "backbone": "BERT 12x768", "name": f"n=40, {mixtures} mixtures", "n": 40}
        cells.append({**facts, **parts, "share": sum(parts.values()), "strategy": "slots", "demux": "mlp"})
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


def training(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Forward and backward, 6 layers, d=384, L=64."""
    report = measure(
        bert(6, 384), (2, 5, 10, 20, 40), example_input=text(64), train=True, rounds=3, mixtures=(2, 8), progress=tell
    )
    return records(report, "training", backbone="BERT 6x384", length=64)


def arithmetic(args: argparse.Namespace, tell: Tell) -> list[dict[str, Any]]:
    """Bare and N=20 compiled, in bfloat16, with 8-bit weights and in onnxruntime: 6 layers, d=384, L=64."""
    example, cells = text(64), []
    for name, change in {"compile": _compiled, "bfloat16": _bfloat16, "int8": _int8, "onnx": _onnx}.items():
        tell(name)
        bare, wrapped = bert(6, 384).eval(), muxwrap.wrap(bert(6, 384), 20, example_input=example).eval()
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters and quantisers announce their own future
            made = [change(label, model, example, Path(folder)) for label, model in (("bare", bare), ("n=20", wrapped))]
            eager = [Configuration(f"{label}, eager", m, example) for label, m in (("bare", bare), ("n=20", wrapped))]
            report = compare([eager[0], made[0], eager[1], made[1]], rounds=3, seconds=0.3, mixtures=(4,))
        cells += records(report, f"arithmetic_{name}", backbone="BERT 6x384", length=64)
    return cells


def _compiled(label: str, model: nn.Module, example: Any, folder: Path) -> Configuration:
    return Configuration(f"{label}, compile", model, example, torch.compile(model))


def _bfloat16(label: str, model: nn.Module, example: Any, folder: Path) -> Configuration:
    def call(**inputs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(**inputs)

    return Configuration(f"{label}, bfloat16", model, example, call)


def _int8(label: str, model: nn.Module, example: Any, folder: Path) -> Configuration:
    """8-bit weights in the backbone; the strategy and the demuxer keep theirs."""
    if not isinstance(model, muxwrap.Multiplex):
        return Configuration(f"{label}, int8", torch.ao.quantization.quantize_dynamic(model, {nn.Linear}), example)
    bare = torch.ao.quantization.quantize_dynamic(bert(6, 384).eval(), {nn.Linear})
    again = muxwrap.wrap(bare, model.n, model.strategy, model.demuxer, sites=model.sites).eval()
    return Configuration(f"{label}, int8", again, example)


def _onnx(label: str, model: nn.Module, example: Any, folder: Path) -> Configuration:
    """Export at the batch that is measured, four sequences or mixtures; the answers are compared with eager ones."""
    rows = 4 * getattr(model, "n", 1)
    inputs = with_rows(example, rows)
    program = torch.onnx.export(_Plain(model), (inputs["input_ids"],), dynamo=True, verbose=False)
    path = folder / f"{rows}.onnx"
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        return [torch.from_numpy(answer) for answer in session.run(None, {name: input_ids.numpy()})]

    with torch.inference_mode():
        torch.testing.assert_close(call(**inputs)[0], model(**inputs).logits, rtol=1e-3, atol=1e-3)
    return Configuration(f"{label}, onnx", model, example, call)


class _Plain(nn.Module):
    """A model that answers with a tensor, for export."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
