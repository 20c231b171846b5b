"""Calls that a wrapped model refuses, of models that change their way from call to call: each error names the way out."""

from __future__ import annotations

import pytest
import torch
from nets import batch
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, Site, Sites
from muxwrap.site import SideInput


class Branching(nn.Module):
    """Vectors to 5 classes; the stem or the head is left out where a call says so."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor, without: str = "") -> Tensor:
        h = self.layer(x if without == "stem" else self.stem(x))
        return h if without == "head" else self.head(h)


def test_a_call_that_takes_a_shorter_way() -> None:
    model = muxwrap.wrap(Branching(), 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12))
    with pytest.raises(
        MuxwrapError, match=r"input of head .* was never reached, so nothing was separated; name a module"
    ):
        model(torch.randn(3, 12), "head")


def test_a_module_replaced_before_compiled_code_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = muxwrap.wrap(Branching(), 2, mux_at="stem", demux_at="head", example_input=torch.zeros(1, 12)).eval()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert model(torch.randn(4, 12)).shape == (4, 5)
    model.backbone.stem = nn.Linear(12, 12)
    with pytest.raises(MuxwrapError, match="'stem' was replaced after the last call; call the model once before it is"):
        model(torch.randn(4, 12))


def test_no_order_fits_tensors_of_different_rows() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 5)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(torch.tanh(self.left(x) + self.right(y)))

    sites = Sites((Site("left", "output", -1, 16), Site("right", "output", -1, 16)), (Site("head", "input", -1, 16),))
    model = muxwrap.wrap(Two(), 2, sites=sites, shuffle=True).train()
    with pytest.raises(
        MuxwrapError, match=r"tensors of 4 and of 2 rows are mixed in one call.*wrap with shuffle=False"
    ):
        model(torch.randn(4, 12), torch.randn(2, 12))


def test_what_is_of_the_rows_beside_a_batch_that_is_read_for_its_size() -> None:
    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.time, self.layer, self.head = (
                nn.Linear(a, b) for a, b in ((12, 32), (1, 32), (32, 32), (32, 5))
            )

        def forward(self, x: Tensor, t: int | Tensor) -> Tensor:
            t = torch.as_tensor(t).float().expand(len(x))
            return self.head(torch.relu(self.layer(torch.relu(self.stem(x)) + self.time(t[:, None]))))

    model = muxwrap.wrap(Timed(), 2, example_input=(torch.zeros(1, 12), 3)).eval()
    x = torch.randn(6, 12)
    assert torch.equal(model(x, 7), model(x, torch.tensor([7])))
    with pytest.raises(MuxwrapError, match=r"Here 6 rows make 3 mixtures of 2.*Of the rows are x, t: .*example_input="):
        model(x, torch.arange(6))


def test_a_prefix_has_no_place_in_a_mask_of_pairs() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(30, 16), nn.Linear(16, 5)
            self.attention = nn.MultiheadAttention(16, 1, batch_first=True)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.embed(ids)
            return self.out(self.attention(h, h, h, attn_mask=mask)[0])

    mux, demux = Site("embed", "output", -1, 16), Site("out", "input", -1, 16)
    side = SideInput("attention", "kwargs['attn_mask']", "padding")
    model = muxwrap.wrap(Pairs(), 2, "hadamard", "index", sites=Sites((mux,), (demux,), sides=(side,)))
    with pytest.raises(
        MuxwrapError, match=r"is given kwargs\['attn_mask'\] \[4, 7, 7\], and a prefix .*without a prefix"
    ):
        model(batch("tagger", 4), torch.zeros(4, 7, 7, dtype=torch.bool))


def test_features_of_other_rows() -> None:
    class Parted(Branching):
        def forward_features(self, x: Tensor, pooled: bool = False) -> Tensor:
            h = torch.tanh(self.layer(self.stem(x)))
            return h.mean(0, keepdim=True) if pooled else h

        def forward_head(self, x: Tensor) -> Tensor:
            return self.head(x)

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return self.forward_head(self.forward_features(x))

    model = muxwrap.wrap(Parted(), 2, mux_at="stem", demux_at="layer@output", example_input=torch.zeros(1, 12))
    assert model.forward_features(torch.randn(4, 12)).shape == (4, 12)
    with pytest.raises(MuxwrapError, match=r"forward_features\(\) gives \[1, 12\] for 4 rows; call model\.backbone"):
        model.forward_features(torch.randn(4, 12), pooled=True)
