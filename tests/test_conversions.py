"""What others do to a wrapped model's modules: right, or the one error that says so."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap

REPLACED = r"was replaced after wrapping \(by a \w+\), and the new one does not mix or separate"


class Fusable(nn.Module):
    """Images to classes, through layers that can be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(2, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        self.layer, self.last, self.out = nn.Conv2d(16, 20, 3), nn.BatchNorm2d(20), nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.last(self.layer(self.act(self.norm(self.conv(x))))).mean((2, 3)))


def wrapped(mux_at: str, demux_at: str = "out") -> muxwrap.Multiplex:
    torch.manual_seed(0)
    net = Fusable()
    for norm in (net.norm, net.last):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(1, 2)
    x = torch.zeros(1, 2, 6, 6)
    return muxwrap.wrap(net, 2, mux_at=mux_at, demux_at=demux_at, example_input=x).eval()


def images(rows: int) -> torch.Tensor:
    return torch.randn(rows, 2, 6, 6, generator=torch.Generator().manual_seed(rows))


@pytest.mark.filterwarnings("ignore")  # torch announces the move of its quantisation to another package
@pytest.mark.parametrize(("mux_at", "works"), [("act", True), ("@input", True), ("conv", False), ("norm", False)])
@pytest.mark.parametrize("rows", [2, 5])
def test_fused_layers_after_and_before_which_is_mixed(mux_at: str, works: bool, rows: int) -> None:
    model = wrapped(mux_at)
    answer = model(images(rows))
    fused = torch.ao.quantization.fuse_modules(model, [["backbone.conv", "backbone.norm"]])
    if works:
        torch.testing.assert_close(fused(images(rows)), answer, rtol=1e-4, atol=1e-4)
    else:
        with pytest.raises(muxwrap.MuxwrapError, match=REPLACED):
            fused(images(rows))
    torch.testing.assert_close(model(images(rows)), answer, rtol=0, atol=0)


@pytest.mark.parametrize(("mux_at", "works"), [("conv", True), ("norm", False)])
def test_synchronised_batch_norms(mux_at: str, works: bool) -> None:
    model = wrapped(mux_at)
    answer = model(images(5))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if not works:
        with pytest.raises(muxwrap.MuxwrapError, match=REPLACED):
            converted(images(5))
        converted.detach()
        converted.attach()
    torch.testing.assert_close(converted(images(5)), answer)


def test_a_replaced_layer_is_named_before_a_wrong_argument() -> None:
    model = wrapped("conv")
    model.backbone.out = nn.Linear(20, 5)
    with pytest.raises(muxwrap.MuxwrapError, match=REPLACED):
        model("no tensor")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_module_of_ones_own_around_a_layer_is_never_guessed(rows: int) -> None:
    """It would add what it makes of mixtures to what the layer makes of rows."""

    class Beside(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer, self.more = layer, nn.Linear(layer.in_features, layer.out_features)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.more(x)

    model = wrapped("conv")
    model.backbone.out = Beside(model.backbone.out)
    with pytest.raises(muxwrap.MuxwrapError, match=REPLACED):
        model(images(rows))
    model.detach()
    model.attach()
    assert model(images(rows)).shape == (rows, 5)


def test_a_copied_layer_in_its_place_is_noticed_and_leaves_nothing() -> None:
    model = wrapped("conv")
    model.backbone.out = copy.deepcopy(model.backbone.out)
    with pytest.raises(muxwrap.MuxwrapError, match=REPLACED):
        model(images(2))
    bare = muxwrap.unwrap(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())
    muxwrap.wrap(bare, 2, example_input=images(1))


def test_tracing_with_fx_is_refused_and_what_was_traced_can_be_wrapped() -> None:
    model = wrapped("conv")
    with pytest.raises(muxwrap.MuxwrapError, match=r"torch.fx traces without values.*trace the bare model and wrap"):
        torch.fx.symbolic_trace(model)
    answer = model(images(5))
    parts = model.strategy, model.demuxer, model.sites
    traced = torch.fx.symbolic_trace(muxwrap.unwrap(model))
    again = muxwrap.wrap(traced, 2, parts[0], parts[1], sites=parts[2]).eval()
    torch.testing.assert_close(again(images(5)), answer)


def test_tools_that_trace_with_fx() -> None:
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    with pytest.raises(muxwrap.MuxwrapError, match=r"torch.fx traces without values"):
        extraction.create_feature_extractor(wrapped("conv"), ["backbone.layer"])


def test_hooks_of_users_see_every_row_once() -> None:
    model = muxwrap.wrap(make("tagger"), 2, mux_at="embed", demux_at="out", example_input=batch("tagger", 1))
    seen: dict[str, list[int]] = {"embed": [], "encoder": [], "out": []}
    for name, rows in seen.items():
        model.backbone.get_submodule(name).register_forward_pre_hook(
            lambda _, args, rows=rows: rows.append(len(args[0]))
        )
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            model.train(mode)(batch("tagger", 5))
    assert seen == {"embed": [5, 5], "encoder": [3, 3], "out": [5, 5]}
