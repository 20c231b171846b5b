"""Batch size 1 and every shape fixed: images per second of n images in one mixture, of the bare model and of a smaller one.

python -m benchmarks.speed.static_shapes

Each model is a graph of its own for one call: one image, or one mixture of n. The runtimes run it on the processor, by turns.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import openvino
import timm
import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.results import ROOT, merge_records
from muxwrap.throughput import Configuration, compare

RESULTS = ROOT / "docs" / "results" / "static_shapes.json"
MODELS = {"resnet50": "resnet18", "vit_small_patch16_224": "vit_tiny_patch16_224"}
"""Models, each with a smaller one of its kind."""
COUNTS = (2, 4, 8)
Run = Callable[[Tensor], Tensor]


def exported(model: nn.Module, x: Tensor, path: Path) -> Path:
    """Write a model as ONNX with the shape of ``x`` and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own libraries
        torch.onnx.export(model, (x,), dynamo=True, verbose=False, input_names=["x"]).save(path)
    return path


def in_onnxruntime(path: Path) -> Run:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def in_openvino(path: Path) -> Run:
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


RUNTIMES: dict[str, Callable[[Path], Run]] = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def models(name: str, smaller: str) -> dict[str, nn.Module]:
    """Return the bare model, the multiplexed ones and the smaller one; speed does not depend on weights."""
    found = {"bare": timm.create_model(name)}
    found |= {f"n={n}": muxwrap.wrap(timm.create_model(name), n) for n in COUNTS}
    return {label: model.eval() for label, model in {**found, f"bare {smaller}": timm.create_model(smaller)}.items()}


def measure(name: str, rounds: int, seconds: float, progress: Callable[[str], object]) -> list[dict[str, Any]]:
    """Return a record per model and runtime; the answers of every graph are compared with torch's first."""
    records: list[dict[str, Any]] = []
    made = models(name, MODELS[name])
    x = torch.randn(max(COUNTS), *made["bare"].pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        paths = {}
        for label, model in made.items():
            progress(f"export {name}, {label}")
            paths[label] = exported(model, x[: _rows(model)], Path(folder) / f"{len(paths)}.onnx")
        for runtime, load in RUNTIMES.items():
            calls = {label: load(path) for label, path in paths.items()}
            for label, model in made.items():
                _check(model, calls[label], x[: _rows(model)])
            cells = [Configuration(label, model, x[:1], calls[label]) for label, model in made.items()]
            report = compare(cells, mixtures=(1,), rounds=rounds, seconds=seconds, progress=progress)
            labels = {"study": "static_shapes", "backbone": name, "runtime": runtime}
            records += [{**cell, "key": f"{name} {runtime} {cell['name']}"} for cell in report.records(**labels)]
    return records


def _rows(model: nn.Module) -> int:
    return getattr(model, "n", 1)


def _check(model: nn.Module, call: Run, x: Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(call(x), model(x), rtol=1e-2, atol=1e-3)


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of a model in a round")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    for name in args.only:
        records = measure(name, args.rounds, args.seconds, lambda text: print(text, flush=True))
        merge_records(
            args.results, "static_shapes", records, key="key", command="python -m benchmarks.speed.static_shapes"
        )
        for record in records:
            print(f"{record['key']:50} {record['instances_per_second']:8.1f} images/s, {record['ratio_to_bare']:.2f}x")


if __name__ == "__main__":
    main()
