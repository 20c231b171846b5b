"""Export to ONNX, checked in onnxruntime against eager."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from nets import batch, make

import muxwrap


@pytest.mark.parametrize(
    ("net", "strategy", "demux"), [("cnn", "slots", "mlp"), ("tagger", "hadamard", "index"), ("tagger", "walsh", "key")]
)
def test_onnx_with_a_free_number_of_groups(net: str, strategy: str, demux: str, tmp_path: Path) -> None:
    model = muxwrap.wrap(make(net), 3, strategy, demux, example_input=batch(net, 1)).eval().grouped()
    x = batch(net, 6).unflatten(0, (2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own libraries
        program = torch.onnx.export(
            model, (x,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("groups")},), verbose=False
        )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    for groups in (1, 2, 5):
        x = batch(net, 3 * groups).unflatten(0, (groups, 3))
        (answer,) = session.run(None, {name: x.numpy()})
        np.testing.assert_allclose(answer, model(x).detach().numpy(), rtol=1e-3, atol=1e-4)
