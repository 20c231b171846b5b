"""``torch.jit.trace`` and the exporter to ONNX that is built on it: sizes are tensors there, and axes are not counted back."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
import onnxruntime
import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap
from muxwrap._util.sizes import fixed, moved

FEATURES = muxwrap.list_strategies("features")
POOLED = {"pool"}  # for layers of a trunk, which these nets have not
NETS = [("cnn", strategy, "mlp") for strategy in muxwrap.list_strategies() if strategy not in POOLED]
NETS += [("tagger", strategy, "mlp") for strategy in (*FEATURES, "concat", "contextual")]
NETS += [("tagger", "slots", demux) for demux in ("index", "key", "unbind")] + [("mlp", "slots", "key")]
NOT_EXPORTED = ("circular", "rotation")  # the exporter knows neither the FFT nor affine_grid (before opset 20)
EXPORTED = [each for each in NETS if each[0] == "cnn" and each[1] not in NOT_EXPORTED] + NETS[-4:]


@pytest.fixture(autouse=True)
def _quiet_about_age() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(is deprecated|legacy TorchScript-based)")
        warnings.filterwarnings("ignore", message="torch.tensor results are registered as constants")  # angles are
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=r"torch\.")  # its own attention
        yield


def wrapped(net: str, strategy: str, demux: str) -> nn.Module:
    return muxwrap.wrap(make(net), 2, strategy, demux, example_input=batch(net, 1)).eval()


@pytest.mark.parametrize(("net", "strategy", "demux"), NETS)
@pytest.mark.parametrize("rows", [3, 4])
def test_a_trace_answers_as_the_model(net: str, strategy: str, demux: str, rows: int) -> None:
    model = wrapped(net, strategy, demux)
    traced = torch.jit.trace(model, batch(net, rows, seed=1), check_trace=False)
    x = batch(net, rows, seed=2)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize(("net", "strategy", "demux"), EXPORTED)
def test_the_older_exporter(net: str, strategy: str, demux: str) -> None:
    model, file = wrapped(net, strategy, demux), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own libraries
        torch.onnx.export(model, (batch(net, 4),), file, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = batch(net, 4, seed=2)
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(answer, model(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_a_site_inside_a_call_with_masks() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 50,
    }
    config = transformers.BertConfig(**sizes, return_dict=False)
    model = muxwrap.wrap(transformers.BertForSequenceClassification(config), 2).eval()
    ids = torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # the model's own
        traced = torch.jit.trace(model, (ids, mask), check_trace=False)
    mask = mask.roll(1, 0)
    torch.testing.assert_close(traced(ids, mask), model(ids, mask))


def test_sizes_are_numbers() -> None:
    seen: list[tuple[int, ...]] = []

    def net(x: torch.Tensor) -> torch.Tensor:
        seen.append(fixed(x.shape))
        return moved(x, -1, 1)

    torch.jit.trace(net, torch.zeros(2, 3, 4), check_trace=False)
    assert seen == [(2, 3, 4)] and all(type(size) is int for size in seen[0])
    assert moved(torch.zeros(2, 3, 4), -1, 1).shape == (2, 4, 3)
