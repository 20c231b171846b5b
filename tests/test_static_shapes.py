"""Exports whose every shape is fixed: one mixture per call, equal in onnxruntime, OpenVINO and torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from helpers import ROOT
from nets import batch, make

import muxwrap


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("static_shapes", ROOT / "examples" / "static_shapes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLE = load_example()


def shapes(path: Path) -> dict[str, list[int | str]]:
    """Return the shape of every value in a graph; a dimension that is free is a name."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.parametrize(
    ("net", "strategy", "demux"),
    [("cnn", None, None), ("cnn", "channels", "mlp"), ("tagger", "hadamard", "index"), ("mlp", "walsh", "key")],
)
@pytest.mark.parametrize("view", ["fixed", "grouped"])
def test_one_mixture_per_call(net: str, strategy: str | None, demux: str | None, view: str, tmp_path: Path) -> None:
    model = muxwrap.wrap(make(net), 3, strategy, demux, example_input=batch(net, 1)).eval()
    x = batch(net, 3)
    path = tmp_path / "model.onnx"
    if view == "fixed":
        EXAMPLE.export(model.fixed(3), x, path)
    else:
        x = x[None]
        EXAMPLE.export(model.grouped(), x, path)
    found = shapes(path)
    assert found["x"] == list(x.shape)
    assert not [shape for shape in found.values() for size in shape if isinstance(size, str)]
    with torch.no_grad():
        expected = (model.grouped() if view == "grouped" else model)(x).numpy()
    for run in EXAMPLE.RUNTIMES.values():
        np.testing.assert_allclose(run(path)(x.numpy()), expected, rtol=1e-3, atol=1e-4)


def test_the_trunk_has_a_batch_of_one(tmp_path: Path) -> None:
    model = muxwrap.wrap(make("cnn"), 3, "slots", example_input=batch("cnn", 1)).eval()
    EXAMPLE.export(model.fixed(3), batch("cnn", 3), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    found = shapes(tmp_path / "model.onnx")
    convolutions = [
        found[node.output[0]][0] for node in graph.node if node.op_type == "Conv" and node.output[0] in found
    ]
    assert convolutions == [3, 1]  # the stem runs on rows, the trunk on the mixture


def test_every_size_of_an_elastic_model_is_a_graph(tmp_path: Path) -> None:
    model = muxwrap.wrap(make("cnn"), (1, 2, 4), example_input=batch("cnn", 1)).eval()
    for n in model.sizes:
        x, path = batch("cnn", n), tmp_path / f"{n}.onnx"
        EXAMPLE.export(model.fixed(n), x, path)
        with torch.no_grad(), model.at(n):
            expected = model(x).numpy()
        np.testing.assert_allclose(EXAMPLE.in_openvino(path)(x.numpy()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "strategy"), [("cnn", None), ("cnn", "channels"), ("tagger", "hadamard"), ("mlp", "walsh")]
)
@pytest.mark.parametrize("view", ["fixed", "grouped"])
def test_executorch(net: str, strategy: str | None, view: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    model = muxwrap.wrap(make(net), 3, strategy, example_input=batch(net, 1)).eval()
    x = batch(net, 3) if view == "fixed" else batch(net, 3)[None]
    shown = model.fixed(3) if view == "fixed" else model.grouped()
    with torch.no_grad():
        expected = shown(x).numpy()
    call = EXAMPLE.in_executorch(shown, x, tmp_path / "model.pte")
    np.testing.assert_allclose(call(x.numpy()), expected, rtol=1e-3, atol=1e-4)


def test_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = EXAMPLE.main(["--model", "test_resnet", "--n", "2", "--output", str(tmp_path / "model.onnx")])
    assert {"onnxruntime", "openvino"} <= found.keys() and max(found.values()) < 1e-3
    assert "onnxruntime: [2, 10]" in capsys.readouterr().out
