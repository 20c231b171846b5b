"""A sample of the model zoo, one architecture for each way of being put together; ``make zoo`` checks all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.zoo import catalogue_transformers, catalogue_vision
from benchmarks.zoo.catalogue import check

# Several heads, heads of a list, a convolution as head, features that are not an average, two stems, raw pixels, features last.
TIMM = """
    byobnet:test_byobnet convnext:test_convnext crossvit:crossvit_tiny_240 csatv2:csatv2 dla:dla46x_c
    efficientformer_v2:efficientformerv2_s0 efficientvim:efficientvim_m1 fastvit:fastvit_t8 levit:levit_128s
    mambaout:test_mambaout maxxvit:test_coatnet nfnet:test_nfnet resnet:test_resnet vision_transformer:test_vit
    xcit:xcit_nano_12_p8_224
"""
# Heads in training only, a convolution as head.
TORCHVISION = "googlenet mobilenet_v3_small shufflenet_v2_x0_5 squeezenet1_1"
# Pixels, colours as tokens, patches with a mask, a teacher's head, the batch's size read off the input.
IMAGE = """
    clip imagegpt levit:LevitForImageClassificationWithTeacher mobilevit pvt segformer siglip2 swiftformer timm_wrapper
"""
SEQUENCE = """
    albert bart bert big_bird deberta-v2 distilbert funnel gpt2 layoutlm llama longformer modernbert mpnet perceiver reformer
    t5 xlnet
"""
TOKEN = "bert bloom gpt2 lilt luke mobilebert roberta"

NAMES = {"timm": TIMM, "torchvision": TORCHVISION, "image": IMAGE, "sequence": SEQUENCE, "token": TOKEN}
SAMPLE = [f"{family}/{name}" for family, names in NAMES.items() for name in names.split()]
ENTRIES = {f"{e.family}/{e.name}": e for e in (*catalogue_vision.entries(), *catalogue_transformers.entries())}


@pytest.fixture(autouse=True)
def unhurried() -> Iterator[None]:
    """Round the fading activations of untrained networks to zero, which is much faster, and leave the seed as it was."""
    torch.set_flush_denormal(True)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_flush_denormal(False)


@pytest.mark.filterwarnings("ignore")  # the models' own
@pytest.mark.parametrize("name", SAMPLE)
def test_wrap_train_and_unwrap(name: str) -> None:
    fields = check(ENTRIES[name])
    assert fields["mux"] and fields["demux"]


def test_names_are_unique() -> None:
    entries = [*catalogue_vision.entries(), *catalogue_transformers.entries()]
    assert len(entries) == len(ENTRIES)
