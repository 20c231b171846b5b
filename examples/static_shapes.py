"""Export a multiplexed model with every shape fixed: one mixture of n images per call, for compilers that allow no batch.

python examples/static_shapes.py --model resnet18 --n 4 --output model.onnx

Edge devices and neural processing units often run a graph of batch size 1 only, so that a larger batch buys nothing there.
A mixture is a batch of 1 for the trunk: n images share the pass.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

import muxwrap


def export(model: nn.Module, x: Tensor, path: Path) -> None:
    """Write a model as ONNX with the shape of ``x`` and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own libraries
        program = torch.onnx.export(
            model.eval(), (x,), dynamo=True, verbose=False, input_names=["x"], output_names=["y"]
        )
    program.save(path)


def in_onnxruntime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def in_openvino(path: Path, device: str = "CPU") -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    # Without this it computes in bfloat16 wherever the processor can.
    compiled = openvino.compile_model(path, device, {"INFERENCE_PRECISION_HINT": "f32"})  # "NPU" where there is one
    return lambda x: compiled(x)[0]


def in_executorch(model: nn.Module, x: Tensor, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Write a model as a program of ExecuTorch for XNNPACK, with the shape of ``x`` and no other, and load it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own libraries
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        exported = torch.export.export(model.eval(), (x,))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        path.write_bytes(program.to_executorch().buffer)
        method = Runtime.get().load_program(path).load_method("forward")
    return lambda x: method.execute([torch.from_numpy(x)])[0].numpy()


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="name of a timm model")
    parser.add_argument("--n", type=int, default=4, help="images per call")
    parser.add_argument("--output", type=Path, default=Path("model.onnx"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    bare = timm.create_model(args.model, num_classes=10)
    x = torch.randn(args.n, *bare.pretrained_cfg["input_size"])
    model = muxwrap.wrap(bare, args.n).eval()  # train it before: untrained, it knows nothing
    export(model.fixed(args.n), x, args.output)
    with torch.no_grad():
        expected = model(x).numpy()
    calls = {name: load(args.output) for name, load in RUNTIMES.items()}
    if importlib.util.find_spec("executorch"):
        calls["executorch"] = in_executorch(model.fixed(args.n), x, args.output.with_suffix(".pte"))
    found = {}
    for name, call in calls.items():
        answer = call(x.numpy())
        found[name] = float(np.abs(answer - expected).max())
        print(f"{name}: {list(answer.shape)}, at most {found[name]:.1e} from torch")
    return found


if __name__ == "__main__":
    main()
