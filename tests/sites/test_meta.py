"""Models without memory, on the device ``meta``: wrapped for their shapes, filled later."""

from __future__ import annotations

import resource
from functools import partial
from typing import Any

import pytest
import timm
import torch
import transformers
from nets import NETS, batch, make
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap


def wrapped_on_meta(net: str, n: int = 2, **options: Any) -> muxwrap.Multiplex:
    with torch.device("meta"):
        backbone = NETS[net].make()
    return muxwrap.wrap(backbone, n, example_input=batch(net, 1), **options).eval()


@pytest.mark.parametrize("net", NETS)
def test_sites_are_those_of_the_model_with_values(net: str) -> None:
    model = wrapped_on_meta(net)
    assert model.sites == muxwrap.wrap(make(net), 2, example_input=batch(net, 1)).sites
    assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {"meta"}
    assert model(batch(net, 5).to("meta")).shape[0] == 5


@pytest.mark.parametrize("model_type", ["bert", "llama", "distilbert"])
def test_text_models(model_type: str) -> None:
    real = tiny("sequence", model_type, pad_token_id=0)
    with torch.device("meta"):
        backbone = type(real)(real.config)
    model, expected = muxwrap.wrap(backbone, 2), muxwrap.wrap(real, 2).sites
    assert (model.sites.mux, model.sites.mask, model.sites.mask_at) == (expected.mux, expected.mask, expected.mask_at)
    assert model.sites.demux[0].path == expected.demux[0].path


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("strategy", [None, "walsh", "hadamard", "layout", "channels"])
@pytest.mark.parametrize("net", ["cnn", "mlp"])
def test_what_was_saved_is_loaded(net: str, strategy: Any, assign: bool) -> None:
    if net == "mlp" and strategy in ("layout", "channels"):
        strategy = partial(muxwrap.strategies.Walsh, learnable=True)
    real = muxwrap.wrap(make(net), 2, strategy, example_input=batch(net, 1)).eval()
    model = wrapped_on_meta(net, strategy=strategy)
    if not assign:
        model.to_empty(device="cpu")
        for value in (*model.parameters(), *model.buffers()):  # whatever was in memory
            value.data.fill_(7)
    model.load_state_dict(real.state_dict(), assign=assign)
    x = batch(net, 5)
    torch.testing.assert_close(model(x), real(x))


def test_wrapped_under_the_device() -> None:
    with torch.device("meta"):
        model = muxwrap.wrap(timm.create_model("test_resnet"), 2)
    real = muxwrap.wrap(timm.create_model("test_resnet"), 2).eval()
    assert model.sites == real.sites
    model.to_empty(device="cpu").load_state_dict(real.state_dict())
    x = torch.randn(3, 3, 96, 96)
    torch.testing.assert_close(model.eval()(x), real(x))


def test_seven_billion_parameters_need_no_memory() -> None:
    config = transformers.LlamaConfig(num_labels=3, pad_token_id=0)
    with torch.device("meta"):
        backbone = transformers.LlamaForSequenceClassification(config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = muxwrap.wrap(backbone, 4)
    assert sum(p.numel() for p in model.backbone.parameters()) > 6e9
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024  # KiB, of 26 GB
    assert [site.path for site in (*model.sites.mux, *model.sites.demux)] == ["model.embed_tokens", "score"]
    assert str(model.sites.mask) == str(muxwrap.site.MaskMode.OPTIONAL)
    assert model.strategy.keys.is_meta


def test_a_model_that_reads_values_needs_written_sites() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.hidden, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.hidden(self.stem(x)))
            return self.head(x if bool((x > 0).any()) else -x)

    with torch.device("meta"):
        backbone = Picky()
    with pytest.raises(muxwrap.MuxwrapError, match=r"without values .* sites=muxwrap\.Sites.* mux_at= and demux_at="):
        muxwrap.wrap(backbone, 2, example_input=torch.zeros(1, 6))
    assert backbone.stem.weight.is_meta and type(backbone.stem.weight) is nn.Parameter
    sites = muxwrap.Sites((muxwrap.Site("stem", "output", -1, 16),), (muxwrap.Site("head", "input", -1, 16),))
    model = muxwrap.wrap(backbone, 2, sites=sites).to_empty(device="cpu")
    real = muxwrap.wrap(Picky(), 2, sites=sites)
    model.load_state_dict(real.state_dict())
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), real(x))


@pytest.mark.parametrize("given", [False, True])
def test_where_shapes_fit_and_values_would_not(given: bool) -> None:
    """GPT-2 looks for padding if it gets no mask, and views a mask as of the rows that it embeds."""
    config = tiny("sequence", "gpt2", pad_token_id=0).config
    with torch.device("meta"):
        backbone = transformers.GPT2ForSequenceClassification(config)
    with pytest.raises(muxwrap.MuxwrapError, match=r"without values .* cannot be found"):
        muxwrap.wrap(backbone, 2, example_input=sentences((8,)) if given else None)


def test_masks_of_models_without_memory() -> None:
    real = muxwrap.wrap(tiny("sequence", "distilbert"), 2).eval()
    with torch.device("meta"):
        backbone = type(real.backbone)(real.backbone.config)
    model = muxwrap.wrap(backbone, 2).to_empty(device="cpu").eval()
    model.load_state_dict(real.state_dict())
    for name, value in real.backbone.named_buffers():  # positions are not saved
        model.backbone.get_buffer(name).copy_(value)
    x = sentences((8, 5, 6))
    # The first token alone is separated where that is found, which takes values.
    torch.testing.assert_close(model(**x).logits, real(**x).logits)
