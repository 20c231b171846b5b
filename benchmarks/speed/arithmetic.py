"""Other arithmetic, bare and N=20: compiled, in bfloat16, with 8-bit weights, in onnxruntime; 6 layers, d=384, L=64."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from torch import nn

import muxwrap
from benchmarks.speed.bound import Progress, bert, records, text
from muxwrap._util.examples import with_rows
from muxwrap.throughput import Configuration, compare
from muxwrap.throughput.dtypes import in_dtype

COUNT, LENGTH = 20, 64


def arithmetic_compile(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """With ``torch.compile``."""
    return _study("compile", _compiled, progress)


def arithmetic_bfloat16(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Weights in bfloat16, and autocast over weights in float32, which casts them again in every call."""
    return _study("bfloat16", _bfloat16, progress)


def arithmetic_int8(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """8-bit weights in the backbone."""
    return _study("int8", _int8, progress)


def arithmetic_onnx(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """In onnxruntime."""
    return _study("onnx", _onnx, progress)


ARITHMETIC = (arithmetic_compile, arithmetic_bfloat16, arithmetic_int8, arithmetic_onnx)
Variant = Callable[[str, nn.Module, Any, Path], list[Configuration]]


def _study(name: str, variant: Variant, progress: Progress) -> list[dict[str, Any]]:
    """Measure the bare and the multiplexed model beside their variants, all against the bare one in eager float32."""
    example = text(LENGTH)
    models = {"bare": bert(6, 384).eval()}
    models[f"n={COUNT}"] = muxwrap.wrap(bert(6, 384), COUNT, example_input=example).eval()
    configurations = []
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters and quantisers announce their own future
        for label, model in models.items():
            configurations.append(Configuration(f"{label}, eager", model, example))
            configurations += variant(label, model, example, Path(folder))
        report = compare(configurations, rounds=3, seconds=0.3, mixtures=(4,), progress=progress)
    cells = records(report, f"arithmetic_{name}", backbone="BERT 6x384", length=LENGTH)
    return [{**cell, "ratio_to_bare": cell["ratio_to_first"]} for cell in cells]


def _compiled(label: str, model: nn.Module, example: Any, folder: Path) -> list[Configuration]:
    return [Configuration(f"{label}, compile", model, example, torch.compile(model))]


def _bfloat16(label: str, model: nn.Module, example: Any, folder: Path) -> list[Configuration]:
    def autocast(**inputs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model(**inputs)

    return [
        Configuration(f"{label}, bfloat16 autocast", model, example, autocast),
        Configuration(f"{label}, bfloat16 weights", in_dtype(model, torch.bfloat16), example),
    ]


def _int8(label: str, model: nn.Module, example: Any, folder: Path) -> list[Configuration]:
    """8-bit weights in the backbone; the strategy and the demuxer keep theirs."""
    if not isinstance(model, muxwrap.Multiplex):
        return [Configuration(f"{label}, int8", torch.ao.quantization.quantize_dynamic(model, {nn.Linear}), example)]
    bare = torch.ao.quantization.quantize_dynamic(bert(6, 384).eval(), {nn.Linear})
    again = muxwrap.wrap(bare, model.n, model.strategy, model.demuxer, sites=model.sites).eval()
    return [Configuration(f"{label}, int8", again, example)]


def _onnx(label: str, model: nn.Module, example: Any, folder: Path) -> list[Configuration]:
    """Export at the batch that is measured, four sequences or mixtures; outputs are compared with eager ones."""
    rows = 4 * getattr(model, "n", 1)
    inputs = with_rows(example, rows)
    program = torch.onnx.export(_Logits(model), (inputs["input_ids"],), dynamo=True, verbose=False)
    path = folder / f"{rows}.onnx"
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {name: input_ids.numpy()})]

    with torch.inference_mode():
        torch.testing.assert_close(call(**inputs)[0], model(**inputs).logits, rtol=1e-3, atol=1e-3)
    return [Configuration(f"{label}, onnx", model, example, call)]


class _Logits(nn.Module):
    """A model that returns one tensor, for export."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
