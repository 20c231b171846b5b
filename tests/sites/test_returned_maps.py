"""Backbones that return several maps: features of the stages for a detector, a U-Net, or distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

import muxwrap
from muxwrap import MuxwrapError, Site, Sites

IMAGES = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Stages(nn.Module):
    """Images to the maps of three stages, the last of them also under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.one, self.two = nn.Conv2d(12, 32, 3, 2, 1), nn.Conv2d(32, 40, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        one = self.one(self.stem(x)).relu()
        two = self.two(one)
        return {"c3": one, "more": [two.relu(), two], "last": two}


def maps_of(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [each for part in parts for each in maps_of(part)]


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "timm, hooks": lambda: timm.create_model("test_vit2", features_only=True),
    "timm, layers": lambda: timm.create_model("test_resnet", features_only=True),
    "timm, two stages": lambda: timm.create_model("test_efficientnet", features_only=True, out_indices=(2, 4)),
    "timm, channels last": lambda: timm.create_model("test_convnext", features_only=True),
    "torchvision": lambda: create_feature_extractor(resnet18(), {"layer2": "c3", "layer4": "c5"}),
    "own": Stages,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_map_has_the_rows_in_order(name: str) -> None:
    backbone = BACKBONES[name]().eval()
    bare = backbone(IMAGES[:1].expand(5, -1, -1, -1))
    model = muxwrap.wrap(backbone, 2, "identity", example_input=IMAGES[:1]).eval()
    assert model.sites.share is not None and model.sites.share > 0.5
    copies = model(IMAGES[:1].expand(5, -1, -1, -1))
    assert type(copies) is type(bare)
    assert [x.shape for x in maps_of(copies)] == [x.shape for x in maps_of(bare)]

    alone = muxwrap.wrap(muxwrap.unwrap(model), 1, "identity", demux="unbind", example_input=IMAGES[:1]).eval()
    for own, other in zip(maps_of(backbone(IMAGES)), maps_of(alone(IMAGES)), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-5)


def test_equal_rows_at_equal_indices_have_equal_maps() -> None:
    model = muxwrap.wrap(Stages(), 2, example_input=IMAGES[:1]).eval()
    pairs = torch.cat([IMAGES[:2], IMAGES[:2]])
    for x in maps_of(model(pairs)):
        torch.testing.assert_close(x[:2], x[2:])
        assert not torch.allclose(x[0], x[1])


def test_one_map_under_two_names_is_separated_once() -> None:
    model = muxwrap.wrap(Stages(), 2, example_input=IMAGES[:1]).eval()
    assert [site.part for site in model.sites.demux] == [0, 1, 2]
    out = model(IMAGES)
    assert out["last"] is out["more"][1]


def test_every_demuxer_learns(tmp_path: Path) -> None:
    model = muxwrap.wrap(Stages(), 2, example_input=IMAGES[:1])
    sum(x.square().mean() for x in maps_of(model(IMAGES))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    model.eval().save_pretrained(tmp_path)
    again = muxwrap.load(tmp_path, backbone=Stages()).eval()
    assert again.sites == model.sites
    for a, b in zip(maps_of(model(IMAGES)), maps_of(again(IMAGES)), strict=True):
        torch.testing.assert_close(a, b)


def test_compiled_maps() -> None:
    model = muxwrap.wrap(Stages(), 2, example_input=IMAGES[:1]).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for a, b in zip(maps_of(model(IMAGES)), maps_of(compiled(IMAGES)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_part_of_what_is_mixed_is_refused() -> None:
    stem, two = Site("stem", "output", 1, 12), Site("two", "output", 1, 40)
    for mux, demux in ((replace(stem, part=0), two), (stem, replace(two, side="input", part=0))):
        with pytest.raises(MuxwrapError, match=r"part of what passes.*leave part out"):
            muxwrap.wrap(Stages(), 2, sites=Sites((mux,), (demux,)))
