"""What pooling tokens refuses: each error names the way out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from nets import batch, make
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, Site, Sites
from muxwrap.strategies import Pool


class Trunk(nn.Module):
    """Token ids to 5 classes a token, by a list of layers that takes masks; the mask of the call is not read."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(30, 16), nn.Linear(16, 5)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(layers))

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        h = self.embed(ids)
        for layer in self.layers:
            h = layer(h)
        return self.out(h)


def sites_of(mux: str, demux: str, dim: int = 16) -> Sites:
    return Sites((Site(mux, "output", -1, dim),), (Site(demux, "output", -1, dim),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (4,)}, r"grid=\(4,\)\): give the height and width in patches"),
        ({"grid": (4, 0)}, r"grid=0\): give whole numbers of 1 or more"),
        ({"keep": -1}, r"keep=-1\): give whole numbers of 0 or more"),
        ({"keep": True}, r"keep=True\): give whole numbers"),
        ({"grid": (2, 2), "separators": (5,)}, "an image has no separators; leave one of the two out"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        Pool(2, 8, **options)


def test_separators_are_found_by_ids() -> None:
    with pytest.raises(
        MuxwrapError, match=r"separators=\(2,\)\) finds them by their ids: call the model with input_ids"
    ):
        Pool(2, 8, separators=(2,))(torch.zeros(1, 2, 6, 8))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            {"mux_at": ["layers.0", "layers.1"]},
            "names 2 sites, and tokens are pooled at one of a trunk; name one layer",
        ),
        ({"demux_at": ["layers.1", "out"]}, "names 2 sites, and pooled tokens are spread out at one; name one module"),
    ],
)
def test_one_site_of_each(named: dict[str, Any], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        muxwrap.wrap(Trunk().eval(), 2, "pool", example_input=batch("tagger", 1), **named)
    one, two = Site("layers.0", "output", -1, 16), Site("layers.1", "output", -1, 16)
    with pytest.raises(MuxwrapError, match="pool mixes at one site and separates at one; name one of each"):
        muxwrap.wrap(Trunk(), 2, "pool", sites=Sites((one, two), (Site("out", "input", -1, 16),)))


def test_a_model_without_layers() -> None:
    with pytest.raises(MuxwrapError, match=r"no list of layers found in MLP that pass tokens .*name one with mux_at="):
        muxwrap.wrap(make("mlp"), 2, "pool", example_input=batch("mlp", 1))
    with pytest.raises(MuxwrapError, match=r"output of embed .* is not in a list of them; name the output of one with"):
        muxwrap.wrap(Trunk(), 2, "pool", sites=sites_of("embed", "layers.2"))


def test_a_last_layer_that_does_not_run() -> None:
    class Short(Trunk):
        def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            return self.out(self.layers[1](self.layers[0](self.embed(ids))))

    with pytest.raises(MuxwrapError, match=r"output of layers\.2 holds no tokens .*name another module with mux_at="):
        muxwrap.wrap(Short().eval(), 2, "pool", example_input=batch("tagger", 1))


def test_layers_that_hold_no_tokens() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12)), nn.Linear(12, 5))
    with pytest.raises(
        MuxwrapError, match=r"holds rows \[12\], which are not tokens \[L, d\]; name a layer that passes"
    ):
        muxwrap.wrap(net, 2, "pool", mux_at="0.0", example_input=torch.zeros(1, 12))
    model = muxwrap.wrap(net, 2, "pool", sites=sites_of("0.0", "0.1", 12))
    with pytest.raises(
        MuxwrapError, match=r"pool pools tokens \[rows, L, d\], and got rows \[12\]; name a module with"
    ):
        model(torch.randn(4, 12))
    with pytest.raises(
        MuxwrapError, match=r"layers \(Linear\) take no attention mask.*take a strategy that mixes features"
    ):
        model(torch.randn(4, 7, 12))


def test_a_mask_of_other_tokens() -> None:
    model = muxwrap.wrap(Trunk().eval(), 2, "pool", sites=sites_of("layers.0", "layers.2"))
    ids = batch("tagger", 4)
    assert model(ids, attention_mask=torch.ones(4, 7)).shape == (4, 7, 5)
    with pytest.raises(
        MuxwrapError, match=r"a mask \[rows, 7\], and got one of shape \[4, 6\]; give one number per token"
    ):
        model(ids, attention_mask=torch.ones(4, 6))


def test_answers_that_are_more_in_a_longer_trunk() -> None:
    class Growing(Trunk):
        def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            h, seen = self.embed(ids), []
            for layer in self.layers:
                h = layer(h)
                seen += [ids.float()] if h.shape[1] > ids.shape[1] else []
            return (self.out(h), *seen)

    with pytest.raises(MuxwrapError, match=r"\d answers instead of 1.*take a strategy that mixes features"):
        muxwrap.wrap(Growing().eval(), 2, "pool", example_input=batch("tagger", 1))


def test_a_mask_of_floats_in_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny("sequence", "bert", attn_implementation="eager")
    model = muxwrap.wrap(net, 2, partial(Pool, proportional=False)).eval()
    call = sentences((5, 7, 3, 9))
    assert model(**call).logits.shape == (4, 3)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(
        MuxwrapError, match="holds scores or 0 and 1, which compiled code cannot do; call the model without"
    ):
        model(**call)
