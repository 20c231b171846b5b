"""Where image models are cut: the stem, one head or several, and the axis of the features."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.resolve import site_at

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def small_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class AsksForSize(nn.Module):
    """Reads the size of the batch off its input, as many vision transformers do, and with ``peeks`` also its pixels."""

    def __init__(self, peeks: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)
        self.peeks = peeks

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        h = self.layer(self.stem(x)).reshape(rows, 16, -1).mean(-1)
        return self.head(h + x.mean((1, 2, 3))[:, None] if self.peeks else h)


class TwoHeads(nn.Module):
    def __init__(self, classes: tuple[int, int], average: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.head = nn.Linear(16, classes[0])
        self.head_dist = nn.Linear(16, classes[1])
        self.average = average

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.stem(x).mean((2, 3))
        answers = self.head(h), self.head_dist(h)
        return (answers[0] + answers[1]) / 2 if self.average else answers


class HeadInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16))
        self.auxiliary = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.stem(x)
        answer = self.head(h.mean((2, 3)))
        return (answer, self.auxiliary(h)) if self.training else answer


def test_the_size_of_the_batch_is_that_of_the_mixtures() -> None:
    sites = muxwrap.find_sites(AsksForSize(), IMAGES)
    assert (sites.mux[0].path, sites.mux[0].dim, sites.mask) == ("stem", 16, "size")


def test_a_backbone_that_reads_pixels_beside_its_stem_is_mixed_before() -> None:
    sites = muxwrap.find_sites(AsksForSize(peeks=True), IMAGES)
    assert (sites.mux[0].path, sites.mux[0].axis, sites.mask) == ("", None, "none")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_each_row_gets_its_own_answer_beside_a_stand_in(rows: int) -> None:
    images = torch.randn(rows, 3, 16, 16)
    backbone = AsksForSize().eval()
    bare = backbone(images)
    model = muxwrap.wrap(backbone, n=1, example_input=images)
    torch.testing.assert_close(model(images), bare)
    model = muxwrap.wrap(muxwrap.unwrap(model), n=2, example_input=images)
    answers = model(images)
    assert answers.shape == bare.shape and torch.isfinite(answers).all()
    torch.testing.assert_close(backbone(images), bare)  # the bare model is given the batch itself


@pytest.mark.parametrize(("classes", "average"), [((5, 5), False), ((5, 5), True), ((5, 7), False)])
def test_heads_side_by_side_are_all_separated(classes: tuple[int, int], average: bool) -> None:
    model = muxwrap.wrap(TwoHeads(classes, average), n=2, example_input=IMAGES)
    assert [site.path for site in model.sites.demux] == ["head", "head_dist"]
    answers = model(IMAGES)
    shapes = [answers.shape] if average else [answer.shape for answer in answers]
    assert shapes == [(3, size) for size in (classes[:1] if average else classes)]


def test_a_head_that_runs_in_training_only_is_separated_there() -> None:
    backbone = HeadInTraining()
    statistics = backbone.stem[1].running_mean.clone()
    model = muxwrap.wrap(backbone, n=2, example_input=IMAGES)
    assert [site.path for site in model.sites.demux] == ["head", "auxiliary.1"]
    assert torch.equal(backbone.stem[1].running_mean, statistics)
    assert [answer.shape for answer in model.train()(IMAGES)] == [(3, 5), (3, 5)]
    assert model.eval()(IMAGES).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "path", "axis", "dim"),
    [
        ("test_resnet", "conv1.0", 1, 16),
        ("test_resnet", "maxpool", 1, 32),  # no layer: what makes and reads its tensor tells the axis
        ("test_resnet", "act1", 1, 32),
        ("test_resnet", "layer1.0", 1, 32),
        ("test_vit", "blocks.0", -1, 64),
        ("test_convnext", "stages.0", 1, 24),
    ],
)
def test_feature_axis(name: str, path: str, axis: int, dim: int) -> None:
    backbone = timm.create_model(name)
    site = site_at(trace(backbone, torch.randn(3, 3, 160, 160)), path, "output")
    assert site is not None and (site.axis, site.dim) == (axis, dim)


def test_features_without_a_head_are_separated_as_they_lie() -> None:
    backbone = timm.create_model("test_resnet", num_classes=0, global_pool="")
    model = muxwrap.wrap(backbone, n=2)
    assert (model.sites.demux[0].axis, model.sites.demux[0].dim) == (1, 96)
    assert model(torch.randn(3, 3, 160, 160)).shape == (3, 96, 5, 5)


def test_a_timm_model_made_for_another_size_needs_no_example() -> None:
    backbone = timm.create_model("test_vit", img_size=64)
    assert muxwrap.wrap(backbone, n=2)(torch.randn(3, 3, 64, 64)).shape == (3, 1000)


def test_raw_images_get_cells_as_long_as_these_are_large_enough() -> None:
    for options in ({}, {"mux_at": "@input"}):
        model = muxwrap.wrap(timm.create_model("test_resnet"), n=2, **options)
        assert (model.strategy.name, str(model.sites.mux[0])[:21]) == ("layout", "input of the backbone")
    net = timm.create_model("test_resnet", num_classes=3)
    small = torch.zeros(1, 3, 20, 20)
    assert muxwrap.wrap(net, n=8, example_input=small).strategy.name == "layout"
    model = muxwrap.wrap(timm.create_model("test_resnet", num_classes=3), n=9, example_input=small)
    assert model.strategy.name != "layout" and model.sites.mux[0].path == "conv1.0"


def test_what_was_pooled_is_no_map() -> None:
    pooled = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 3, 1), nn.Flatten())
    model = muxwrap.wrap(pooled, n=2, example_input=torch.zeros(1, 1, 20, 20))
    assert (model.strategy.name, model.sites.mux[0].path, model.sites.demux[0].path) == ("layout", "", "3")


def test_a_strategy_that_superposes_is_for_features() -> None:
    for strategy, path in {"remap": "", "layout": "", "slots": "conv1.0", "nonlinear": "conv1.0"}.items():
        model = muxwrap.wrap(timm.create_model("test_resnet"), n=2, strategy=strategy)
        assert model.sites.mux[0].path == path


def test_perceptrons_patches_and_maps_of_answers_mix_features() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 3))
    layer = (nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1))
    dense = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *layer, nn.Conv2d(32, 3, 1))
    patches = nn.Sequential(nn.Conv2d(1, 16, 4, 4), *layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    for net, path in ((flat, "1"), (dense, "0"), (patches, "0")):
        model = muxwrap.wrap(net, n=2, example_input=torch.zeros(1, 1, 20, 20))
        assert (model.strategy.name, model.sites.mux[0].path) == ("slots", path)


def test_whole_images_are_not_given_a_dense_strategy() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8), nn.ReLU(), nn.Linear(8, 3))
    model = muxwrap.wrap(flat, n=2, mux_at="0@output", example_input=torch.zeros(1, 3, 64, 64))
    assert model.strategy.name == "hadamard"


def test_separating_where_a_row_is_no_mixture_is_refused() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 4, 4)
            self.inner = nn.Linear(16, 16)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x).flatten(2).transpose(1, 2)
            h = self.inner(h.reshape(-1, 4, 16))  # four windows an image
            return self.head(h.reshape(x.shape[0], 16, 16).mean(1))

    with pytest.raises(muxwrap.MuxwrapError, match="demux_at has to be where a row is a mixture"):
        muxwrap.wrap(Windows(), n=2, example_input=IMAGES, demux_at="inner")
