"""What timm's training scripts do with a model, beyond calling it: clip, decay, distil features, read NaFlex batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import muxwrap

timm = pytest.importorskip("timm")


def bare(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10, **({"img_size": 32} if "vit" in name else {})).eval()


def wrapped(name: str, n: int = 2, **options: Any) -> muxwrap.Multiplex:
    return muxwrap.wrap(bare(name), n, example_input=torch.zeros(1, 3, 32, 32), **options).eval()


def images(rows: int) -> Tensor:
    return torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_adaptive_clipping_leaves_out_the_classifier(name: str) -> None:
    """``--clip-mode agc`` takes the last two parameters for it."""
    from timm.models import model_parameters

    model = wrapped(name)
    clipped = {id(p) for p in model_parameters(model, exclude_head=True)}
    left_out = {key for key, p in model.named_parameters() if id(p) not in clipped}
    of_bare = {id(p) for p in model_parameters(model.backbone, exclude_head=True)}
    assert left_out == {f"backbone.{key}" for key, p in model.backbone.named_parameters() if id(p) not in of_bare}
    assert all(id(p) in clipped for part in (model.strategy, model.demuxers) for p in part.parameters())


@pytest.mark.parametrize(
    ("strategy", "demux", "n", "spared"),
    [
        ("slots", "mlp", 8, {"demuxers.0.bias", "demuxers.0.norm_weight", "demuxers.0.norm_bias"}),
        ("hadamard", "key", 64, {"demuxers.0.keys"}),  # n = dim: a matrix may have n rows, too
        ("sign", "index", 64, {"demuxers.0.prefix"}),
    ],
)
def test_one_vector_per_index_is_not_decayed(strategy: str, demux: str, n: int, spared: set[str]) -> None:
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    where = {} if demux != "index" else {"mux_at": "pos_drop", "demux_at": "norm@output"}
    model = wrapped("test_vit", n, strategy=strategy, demux=demux, **where)
    names = {id(p): name for name, p in model.named_parameters()}
    added = {name: p for name, p in model.named_parameters() if not name.startswith("backbone.")}
    assert spared <= model.no_weight_decay()
    for groups in (
        param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay()),
        param_groups_layer_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5),
    ):
        decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
        free = {name for name in added if decay[name] == 0}
        assert spared <= free
        assert all(added[name].ndim == 1 for name in free - spared)
        assert {name for name, p in added.items() if p.ndim > 1} - free


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("test_vit", {"demux_at": "norm@output"}),
        ("test_convnext", {"demux_at": "stages@output"}),
        ("test_resnet", {"mux_at": "conv1", "demux_at": "layer4@output"}),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_features_of_rows_where_instances_are_separated_among_them(name: str, sites: dict[str, str], rows: int) -> None:
    model = wrapped(name, **sites)
    x = images(rows)
    features = model.forward_features(x)
    assert features.shape == model.backbone.forward_features(x).shape
    assert not torch.allclose(features, model.backbone.forward_features(x), atol=1e-3)
    torch.testing.assert_close(model.forward_head(features), model(x))
    hidden = model.forward_head(features, pre_logits=True)
    assert hidden.shape == (rows, model.head_hidden_size)
    hidden.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.demuxers.parameters())


def test_features_with_fewer_rows_per_mixture_are_those_of_the_call() -> None:
    x = images(6)
    model = muxwrap.wrap(bare("test_vit"), (1, 2), demux_at="norm@output", example_input=x).eval()
    two = model.forward_features(x)
    model.n = 1
    features = model.forward_features(x)
    assert features.shape == two.shape
    assert not torch.allclose(features, two, atol=1e-3)
    torch.testing.assert_close(model.forward_head(features), model(x), rtol=1e-4, atol=1e-4)  # the head is linear


def test_features_of_mixtures_are_refused() -> None:
    x = images(5)
    with pytest.raises(muxwrap.MuxwrapError, match=r"ends before instances are separated .*demux_at='norm@output'"):
        wrapped("test_vit").forward_features(x)
    raw = wrapped("test_resnet", mux_at="@input", demux_at="layer4@output")
    with pytest.raises(muxwrap.MuxwrapError, match=r"begins after instances are mixed .*wrap with mux_at="):
        raw.forward_features(x)
    model = wrapped("test_resnet")
    with pytest.raises(muxwrap.MuxwrapError, match=r"forward_head\(\) separates instances .*wrap with demux_at="):
        model.forward_head(torch.zeros(5, model.num_features, 2, 2))
    assert not hasattr(
        muxwrap.wrap(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), 2, example_input=x[:1, 0, :1, :8]),
        "forward_features",
    )


@pytest.mark.parametrize("name", ["forward_intermediates", "get_intermediate_layers", "prune_intermediate_layers"])
def test_what_lies_inside_of_the_trunk_is_refused_in_one_line(name: str) -> None:
    model = wrapped("test_vit")
    with pytest.raises(muxwrap.MuxwrapError, match=rf"{name}\(\) is not supported: .*") as caught:
        getattr(model, name)
    assert "\n" not in str(caught.value)
    assert not hasattr(model, name)


def test_naflex_batches_are_refused_and_images_are_not() -> None:
    torch.manual_seed(0)
    net = timm.create_model("naflexvit_base_patch16_gap", num_classes=10, depth=2, embed_dim=64, num_heads=2).eval()
    grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"), -1).view(1, 4, 2)
    patches = {
        "patches": torch.randn(3, 4, 768),
        "patch_coord": grid.repeat(3, 1, 1),
        "patch_valid": torch.ones(3, 4, dtype=torch.bool),
    }
    assert net(patches).shape == (3, 10)
    with pytest.raises(muxwrap.MuxwrapError, match=r"NaFlex batches .* call it with images of one size"):
        muxwrap.wrap(net, 2, example_input=(patches,))
    model = muxwrap.wrap(net, 2, example_input=torch.zeros(1, 3, 32, 32)).eval()
    assert model(images(3)).shape == (3, 10)
    with pytest.raises((muxwrap.MuxwrapError, RuntimeError)):
        model(patches)
