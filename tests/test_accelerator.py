"""What only an accelerator shows: the same answers there as on the processor, in training, mixed precision and compiled."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor

import muxwrap
from muxwrap.throughput import measure
from muxwrap.training import damp_crosstalk, distillation, start_apart, warm_up

pytestmark = pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator")


@pytest.fixture(autouse=True)
def exact() -> Any:
    """Products and convolutions in whole single precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


def device() -> torch.device:
    found = torch.accelerator.current_accelerator()
    assert found is not None
    return found


def pair(name: str, n: int, **options: Any) -> tuple[muxwrap.Multiplex, muxwrap.Multiplex]:
    """Return one wrapped model on the processor and on the accelerator."""
    model = muxwrap.wrap(make(name), n, example_input=batch(name, 2), **options)
    return model, copy.deepcopy(model).to(device())


def bert(dim: int) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 60, "hidden_size": dim, "intermediate_size": 2 * dim, "max_position_embeddings": 40}
    config = transformers.BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def same(here: Tensor, there: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(there.cpu().float(), here, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", muxwrap.list_strategies("features"))
@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger"])
def test_features(net: str, name: str) -> None:
    here, there = pair(net, 2, strategy=name)
    x = batch(net, 5)
    same(here.eval()(x), there.eval()(x.to(device())))
    here.train()(x).sum().backward()
    there.train()(x.to(device())).sum().backward()
    for (key, a), b in zip(here.named_parameters(), there.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            same(a.grad, b.grad, 1e-3)


@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger", "bert"])
def test_models_are_wrapped_there(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    held = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        backbone, x = (bert(32), None) if net == "bert" else (make(net), batch(net, 2))
        here = muxwrap.find_sites(backbone, x)
        assert muxwrap.find_sites(backbone.to(device()), x if x is None else x.to(device())) == here
    finally:
        torch.set_float32_matmul_precision(held)


@pytest.mark.parametrize("name", muxwrap.list_strategies("image"))
def test_images(name: str) -> None:
    here, there = pair("cnn", 2, strategy=name, mux_at="@input")
    x = batch("cnn", 5)
    same(here.eval()(x), there.eval()(x.to(device())))


@pytest.mark.parametrize("demux", muxwrap.list_demuxers())
def test_demuxers(demux: str) -> None:
    model = muxwrap.wrap(bert(16), 4, "slots", demux).eval()
    ids = torch.randint(1, 60, (90, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.arange(90).unsqueeze(1) % 9 + 1).long()
    there = copy.deepcopy(model).to(device())
    with torch.inference_mode():  # where a stem runs piece by piece
        whole = {"input_ids": ids, "attention_mask": mask}
        same(model(**whole).logits, there(**{k: v.to(device()) for k, v in whole.items()}).logits)


def test_mixed_precision_learns() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(make("cnn"), 2, example_input=batch("cnn", 2)).to(device())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler(device().type)
    x, labels = batch("cnn", 20).to(device()), (torch.arange(20) % 5).to(device())
    losses = []
    for _ in range(60):
        with torch.autocast(device().type, dtype=torch.float16):
            loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger"])
def test_half_and_compiled(net: str) -> None:
    here, there = pair(net, 2)
    x = batch(net, 6)
    expected = here.eval()(x)
    with torch.inference_mode():
        same(expected, torch.compile(there.eval(), fullgraph=True)(x.to(device())), 1e-3)
        x = x.to(torch.bfloat16) if x.is_floating_point() else x
        same(expected, there.to(torch.bfloat16)(x.to(device())), 0.1)


def test_training_helpers() -> None:
    model = muxwrap.wrap(bert(32), 2, "slots", "unbind").to(device())
    start_apart(model)
    rng = torch.Generator().manual_seed(0)
    batches = [{"input_ids": torch.randint(1, 60, (8, 6), generator=rng)} for _ in range(4)]
    options = {"held_out": batches[:1], "every": 2, "progress": False}
    done = warm_up(model, batches, 4, **options)
    assert done.accuracy is not None
    again = warm_up(model, batches, 2, head=done.head, **options)
    assert again.accuracy is not None
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    assert damp_crosstalk(optimizer, model, 0.1)
    ids = batches[0]["input_ids"].to(device())
    distillation(model(ids).logits, torch.zeros(8, 3, device=device())).backward()
    optimizer.step()
    same(model.eval()(ids).logits.cpu(), copy.deepcopy(model).cpu()(ids.cpu()).logits)


def test_throughput() -> None:
    report = measure(make("mlp").to(device()), (2,), example_input=batch("mlp", 1).to(device()), rounds=2, seconds=0.01)
    assert report[2].ratio_to_bare > 0 and report[1].activation_bytes > 0
