"""What the rivals make of a trained model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from texts import sentences, tiny
from torch import Tensor, nn

import muxwrap
from muxwrap.frontiers import Subject
from muxwrap.frontiers.blocks import blocks_of
from muxwrap.frontiers.registry import rivals_named
from muxwrap.frontiers.rivals.class_token import class_token
from muxwrap.frontiers.rivals.int8 import int8
from muxwrap.frontiers.rivals.layers import fewer_layers
from muxwrap.frontiers.rivals.narrower import narrower
from muxwrap.frontiers.rivals.shorter import shorter

timm = pytest.importorskip("timm")

PADDED = sentences((12, 7, 9))


def subject(model: nn.Module, example: Any, **options: Any) -> Subject:
    return Subject(model, example, example, blocks_of(model, example), **options)


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5, img_size=32, **options).eval()


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=5).eval()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def answers(model: nn.Module, example: Any) -> Tensor:
    with torch.no_grad():
        output = model.eval()(**example) if isinstance(example, dict) else model.eval()(example)
    return output if isinstance(output, Tensor) else output.logits


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra"])
def test_the_class_token_alone_is_exact_with_padding(model_type: str) -> None:
    model = tiny("sequence", model_type)
    (variant,) = class_token(subject(model, PADDED))
    made = variant.make(copy.deepcopy(model))
    assert not variant.train
    torch.testing.assert_close(answers(made, PADDED), answers(model, PADDED))
    hidden = made.base_model(**PADDED)[0]
    assert hidden.shape[1] == 1


def test_the_class_token_alone_is_exact_for_images_and_in_int8() -> None:
    model = vit()
    (variant,) = class_token(subject(model, IMAGES))
    made = variant.make(copy.deepcopy(model))
    torch.testing.assert_close(answers(made, IMAGES), answers(model, IMAGES))
    (small,) = int8(subject(model, IMAGES))
    assert small.serve is not None
    eight = small.serve(copy.deepcopy(made))
    torch.testing.assert_close(answers(eight, IMAGES), answers(model, IMAGES), atol=0.2, rtol=0.2)
    assert not torch.equal(answers(eight, IMAGES), answers(made, IMAGES))


def test_a_head_that_reads_all_tokens_keeps_the_last_layer() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"reads more of its last layer than the class token"):
        list(class_token(subject(vit(global_pool="avg", class_token=False), IMAGES)))
    with pytest.raises(muxwrap.MuxwrapError, match=r"TransformerBlock, neither a layer of BERT's make nor"):
        list(class_token(subject(tiny("sequence", "distilbert"), PADDED)))
    with pytest.raises(muxwrap.MuxwrapError, match=r"no list of layers that pass tokens on"):
        list(class_token(subject(resnet(), IMAGES)))


def test_the_top_layers_go_first() -> None:
    model = tiny("sequence", "bert", num_hidden_layers=4)
    one = subject(model, PADDED, layers=(4, 3, 1), alone=True)
    variants = list(fewer_layers(one))
    assert [(each.name, each.layers) for each in variants] == [("3 layers", 3), ("1 layer", 1)]
    made = variants[0].make(copy.deepcopy(model))
    assert len(made.bert.encoder.layer) == made.config.num_hidden_layers == 3
    by_hand = copy.deepcopy(model)
    by_hand.bert.encoder.layer = by_hand.bert.encoder.layer[:3]
    torch.testing.assert_close(answers(made, PADDED), answers(by_hand, PADDED))
    assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == 4


def test_of_stages_the_longest_is_cut() -> None:
    model = resnet()
    blocks = blocks_of(model, IMAGES)
    assert blocks is not None and len(blocks.paths) == 8 and not blocks.tokens and blocks.end is None
    assert blocks.kept(6) == ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer4.0")
    (variant,) = fewer_layers(subject(model, IMAGES, layers=(8, 5)))
    made = variant.make(copy.deepcopy(model))
    assert [len(stage) for stage in (made.layer1, made.layer2, made.layer3, made.layer4)] == [2, 1, 1, 1]
    assert answers(made, IMAGES).shape == (2, 5)
    with pytest.raises(muxwrap.MuxwrapError, match=r"frontier\(layers=3\): 4 of 8 layers have to stay.*give 4 or more"):
        blocks.kept(3)


@pytest.mark.parametrize(
    ("model", "example"), [(tiny("sequence", "bert"), PADDED), (vit(), IMAGES)], ids=["bert", "vit"]
)
def test_the_features_that_count_least_go_first(model: nn.Module, example: Any) -> None:
    """Features that count for nothing are left out without a trace."""
    maps = dict(model.named_modules())
    names = [("intermediate.dense", "output.dense"), ("mlp.fc1", "mlp.fc2")]
    pairs = [
        (first, maps[path.removesuffix(into) + out])
        for path, first in maps.items()
        for into, out in names
        if path.endswith(into)
    ]
    assert len(pairs) > 1
    with torch.no_grad():
        for _, last in pairs:
            last.weight[:, ::2] = 0
    half, quarter = narrower(subject(model, example))
    made = half.make(copy.deepcopy(model))
    torch.testing.assert_close(answers(made, example), answers(model, example))
    assert (half.name, quarter.name) == ("50% of the inner features", "25% of the inner features")
    weights = [sum(p.numel() for p in each.parameters()) for each in (model, made, quarter.make(copy.deepcopy(model)))]
    assert weights[0] - weights[2] == pytest.approx(1.5 * (weights[0] - weights[1]))


def test_layers_without_a_pair_of_maps_stay_as_wide() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"layer1.0 is a BasicBlock without a pair of linear maps"):
        list(narrower(subject(resnet(), IMAGES)))
    with pytest.raises(muxwrap.MuxwrapError, match=r"no list of layers found in Flatten"):
        list(narrower(Subject(nn.Flatten(), IMAGES, IMAGES)))
    with pytest.raises(muxwrap.MuxwrapError, match=r"no list of layers of one make found in Flatten"):
        list(fewer_layers(Subject(nn.Flatten(), IMAGES, IMAGES)))


def test_text_is_cut() -> None:
    model = tiny("sequence", "bert")
    long, short = shorter(subject(model, PADDED))
    assert (long.name, short.name) == ("text cut after 9 tokens", "text cut after 6 tokens")
    cut = {name: value[:, :6] for name, value in PADDED.items()}
    torch.testing.assert_close(answers(short.make(copy.deepcopy(model)), PADDED), answers(model, cut))


def hf_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.ViTForImageClassification(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).eval()


@pytest.mark.parametrize("make", [vit, resnet, hf_vit])
def test_images_are_made_smaller(make: Any) -> None:
    model = make()
    half = list(shorter(subject(model, IMAGES)))[-1]
    assert half.name == "images of 16 x 16"
    seen: list[int] = []
    made = half.make(copy.deepcopy(model))
    conv = next(module for module in made.modules() if isinstance(module, nn.Conv2d))
    conv.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-1]))
    assert answers(made, IMAGES).shape == answers(model, IMAGES).shape
    assert seen == [16]


def test_other_input_is_not_cut() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"input \[4, 12\] is neither tokens"):
        list(shorter(Subject(nn.Flatten(), torch.randn(4, 12), None)))
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    with pytest.raises(muxwrap.MuxwrapError, match=r"Sequential does not take images of 24 x 24"):
        list(shorter(Subject(fixed, IMAGES, IMAGES)))


def test_int8_is_for_linear_maps_on_a_processor() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=r"ResNet is made of convolutions"):
        list(int8(subject(resnet(), IMAGES)))
    with pytest.raises(muxwrap.MuxwrapError, match=r"runs on processors, and the model is on meta"):
        list(int8(Subject(nn.Linear(2, 2, device="meta"), IMAGES, IMAGES)))


def test_rivals_by_name() -> None:
    assert list(rivals_named("int8")) == ["int8"]
    with pytest.raises(muxwrap.MuxwrapError, match=r"unknown rival 'layer'; did you mean 'layers'"):
        rivals_named(["layer"])
    with pytest.raises(muxwrap.MuxwrapError, match=r"register_rival\('int8'\): another rival has that name"):
        muxwrap.frontiers.register_rival("int8")(narrower)
