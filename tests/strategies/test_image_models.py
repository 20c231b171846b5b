"""Images mixed inside models: user-written, timm, torchvision; stems that read more channels than they were made for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_state, copies
from nets import CNN
from torch import Tensor, nn
from torch.testing import assert_close

import muxwrap
from muxwrap import MuxwrapError
from muxwrap._hooks.widening import Widening
from muxwrap.strategies import Layout, Nonlinear

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

IMAGES = muxwrap.list_strategies("image")
WIDE = ["channels", partial(Nonlinear, channels=8), partial(Layout, channels=7)]


class ChannelsLast(nn.Module):
    """A stem that gives ``[B, H, W, C]``, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 8)
        self.mlp = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x.permute(0, 2, 3, 1)))
        return self.fc(torch.tanh(self.mlp(h)).mean((1, 2)))


def resnet() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=5)


def vit() -> nn.Module:
    return timm.create_model("test_vit", num_classes=5, img_size=32, patch_size=8)


def torchvision_resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


MODELS: list[tuple[Callable[[], nn.Module], int, tuple[str, ...]]] = [
    (CNN, 2, ("@input", "stem@input", "stem")),
    (ChannelsLast, 2, ("@input", "stem")),
    (resnet, 3, ("@input", "conv1.0@input", "conv1")),
    (vit, 3, ("@input", "patch_embed.proj")),
    (torchvision_resnet, 3, ("@input", "conv1")),
]
CASES = [(make, channels, at) for make, channels, places in MODELS for at in places]


def images(rows: int, channels: int, side: int = 32) -> Tensor:
    return torch.randn(rows, channels, side, side, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize(("make", "channels", "at"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_layout_wraps_anything_with_an_image(make: Any, channels: int, at: str) -> None:
    backbone = make()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = muxwrap.wrap(backbone, 3, "layout", mux_at=at, example_input=images(1, channels)).eval()
    whole = model(images(4, channels))
    assert whole.shape == (4, 5)
    assert whole.isfinite().all()
    assert muxwrap.unwrap(model) is backbone
    assert before.keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("at", ["@input", "stem"])
def test_every_strategy_trains_and_saves(name: str, at: str, tmp_path: Path) -> None:
    x = images(5, 2, 9)
    model = muxwrap.wrap(CNN(), 3, name, mux_at=at, example_input=x[:1])
    model(x).square().mean().backward()
    unused = [key for key, value in model.named_parameters() if value.grad is None]
    assert unused == []
    model.eval()
    model.save_pretrained(str(tmp_path))
    loaded = muxwrap.load(tmp_path, CNN()).eval()
    assert_same_state(model, loaded)
    assert torch.equal(loaded(x), model(x))
    assert [site.shape for site in loaded.sites.mux] == [site.shape for site in model.sites.mux]


def test_options_save(tmp_path: Path) -> None:
    choice = partial(Layout, channels=4, hidden=(3,), reach=1)
    x = images(3, 2, 9)
    model = muxwrap.wrap(CNN(), 2, choice, mux_at="@input", example_input=x).eval()
    model.save_pretrained(str(tmp_path))
    assert torch.equal(muxwrap.load(tmp_path, CNN()).eval()(x), model(x))


def test_channels_last_maps_are_images_too() -> None:
    x = images(4, 2, 8)
    model = muxwrap.wrap(ChannelsLast(), 4, "remap", mux_at="stem", example_input=x).eval()
    assert model.sites.mux[0].image == (8, 8, 8)
    seen = []
    handle = model.backbone.mlp.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    model(x)
    handle.remove()
    stem = torch.nn.functional.avg_pool2d(model.backbone.stem(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2)
    top = torch.cat([stem[0], stem[1]], dim=-1)
    assert_close(seen[0][0, :4], torch.tanh(top.permute(1, 2, 0)), atol=1e-5, rtol=1e-5)


# Wider mixtures


@pytest.mark.parametrize("strategy", WIDE, ids=str)
@pytest.mark.parametrize("at", ["@input", "stem@input"])
def test_the_stem_is_widened_and_left_as_it_was(strategy: Any, at: str) -> None:
    x = images(6, 2, 9)
    backbone = CNN().eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    bare = backbone(x)
    model = muxwrap.wrap(backbone, 3, strategy, mux_at=at, example_input=x).eval()
    (widening,) = model.widenings
    assert widening.in_stem
    assert torch.equal(model.backbone(x), bare)
    mixture = model.strategy(x.unflatten(0, (2, 3)))
    # The stem's weights the way timm adapts them to other in_chans, and Δ.
    stem = backbone.stem
    repeated = stem.weight.repeat(1, 20, 1, 1)[:, : mixture.shape[1]] * 2 / mixture.shape[1]
    expected = torch.nn.functional.conv2d(mixture, repeated + widening.added.weight, stem.bias, padding=1)
    seen = []
    handle = backbone.norm.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model(x)
    handle.remove()
    assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)
    for copy in copies(model):
        assert torch.equal(copy(x), model(x))
    assert muxwrap.unwrap(model) is backbone
    assert not backbone.stem._forward_hooks
    assert torch.equal(backbone(x), bare)
    assert before.keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in before.items())


def test_timm_repeats_weights_alike() -> None:
    stem = nn.Conv2d(3, 4, 3, bias=False)
    adapted = timm.models.adapt_input_conv(8, stem.weight.detach())
    mixture = images(2, 8)
    own = stem(Widening(3, 8, stem).reduce(mixture))
    assert_close(own, torch.nn.functional.conv2d(mixture, adapted), atol=1e-5, rtol=1e-5)


def test_a_projection_where_no_convolution_reads_the_mixture() -> None:
    x = images(4, 2, 9)
    model = muxwrap.wrap(CNN(), 2, partial(Nonlinear, channels=8), mux_at="stem", example_input=x)
    (widening,) = model.widenings
    assert not widening.in_stem
    assert widening.added.weight.shape == (16, 8, 1, 1)


def test_no_widening_where_the_channels_fit() -> None:
    assert len(muxwrap.wrap(CNN(), 1, "channels", mux_at="@input", example_input=images(1, 2, 9)).widenings) == 0


@pytest.mark.parametrize("strategy", ["layout", "channels"])
def test_compiles_in_one_graph(strategy: str) -> None:
    torch._dynamo.reset()
    x = images(5, 2, 9)
    model = muxwrap.wrap(CNN(), 2, strategy, mux_at="@input", example_input=x).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert_close(compiled(x), model(x))
    assert_close(compiled(images(4, 2, 9)), model(images(4, 2, 9)))


@pytest.mark.parametrize("strategy", ["layout", partial(Nonlinear, channels=8), "rotation"], ids=str)
def test_bfloat16(strategy: Any) -> None:
    x = images(4, 2, 9).bfloat16()
    model = muxwrap.wrap(CNN().bfloat16(), 2, strategy, mux_at="@input", example_input=x)
    assert all(value.dtype == torch.bfloat16 for value in model.parameters())
    assert model(x).isfinite().all()
    whole = muxwrap.wrap(CNN(), 2, strategy, mux_at="@input", example_input=x.float()).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = whole(x.float())
    assert_close(mixed.float(), whole(x.float()), atol=0.1, rtol=0.1)


# Tokens


def test_concat_in_a_vit() -> None:
    model = muxwrap.wrap(vit(), 4, "concat", mux_at="patch_embed").eval()
    assert model(images(5, 3)).shape == (5, 5)


def test_each_instance_is_separated_where_the_tokens_are() -> None:
    backbone = timm.create_model(
        "test_vit", num_classes=5, img_size=32, patch_size=8, class_token=False, global_pool="avg", fc_norm=True
    )
    model = muxwrap.wrap(backbone, 4, "concat", "unbind", mux_at="patch_embed", demux_at="norm@output").eval()
    assert model(images(5, 3)).shape == (5, 5)


# What is refused


def test_vectors_are_refused_with_what_fits() -> None:
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))
    with pytest.raises(MuxwrapError, match=r"Layout mixes images .* rows \[16\].* strategies that fit there: 'binary'"):
        muxwrap.wrap(net, 2, "layout", example_input=torch.zeros(1, 12))
    with pytest.raises(MuxwrapError, match=r"Concat mixes tokens .*which are not tokens; strategies that fit there"):
        muxwrap.wrap(net, 2, "concat", example_input=torch.zeros(1, 12))
    assert not net[0]._forward_hooks


def test_tokens_are_not_an_image() -> None:
    with pytest.raises(MuxwrapError, match=r"Remap mixes images \[C, H, W\], and the output of pos_drop"):
        muxwrap.wrap(vit(), 2, "remap", mux_at="pos_drop")


def test_more_instances_than_pixels_are_refused() -> None:
    with pytest.raises(MuxwrapError, match=r"n=40 cells in rows of .* do not fit into 5 x 5 pixels; take fewer"):
        muxwrap.wrap(CNN(), 40, "layout", mux_at="@input", example_input=images(1, 2, 5))


def test_unbind_is_refused_where_there_is_none() -> None:
    with pytest.raises(MuxwrapError, match="cannot undo Layout"):
        muxwrap.wrap(CNN(), 2, "layout", "unbind", mux_at="@input", example_input=images(1, 2, 9))


def test_a_site_made_by_hand_learns_its_shape() -> None:
    site = muxwrap.Site("stem", "output", 1, 16)
    model = muxwrap.wrap(CNN(), 2, "pixel_rotation", mux_at=site, example_input=images(1, 2, 6))
    assert model.strategy.size == (6, 6)
    bare = muxwrap.Sites((site,), model.sites.demux)
    with pytest.raises(MuxwrapError, match="rows of unknown shape"):
        muxwrap.wrap(CNN(), 2, "layout", sites=bare)


def test_names_by_what_they_see() -> None:
    assert muxwrap.list_strategies("tokens") == ["concat", "contextual", "pool"]
    kinds = [muxwrap.list_strategies(sees) for sees in ("features", "tokens", "image")]
    assert sorted(name for names in kinds for name in names) == muxwrap.list_strategies()
