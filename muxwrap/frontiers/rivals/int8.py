"""int8: the linear maps with weights of eight bits, alone and under multiplexing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.registry import Subject, Variant, register_rival

SHARE = 0.5  # of the weights


@register_rival("int8")
def int8(subject: Subject) -> Iterator[Variant]:
    """Yield what quantises a trained model's linear maps: weights beforehand, inputs in every call.

    Raises:
        MuxwrapError: the model is not on a processor, or most of its weights are not those of linear maps.
    """
    device = next(subject.model.parameters()).device
    if device.type != "cpu":
        raise MuxwrapError(
            f"torch's dynamic quantisation runs on processors, and the model is on {device}; give a rival of your own with "
            "register_rival, such as torchao's quantize_"
        )
    layers = [each for each in subject.model.modules() if isinstance(each, (nn.Linear, nn.modules.conv._ConvNd))]
    linear = sum(each.weight.numel() for each in layers if isinstance(each, nn.Linear))
    if linear < SHARE * sum(each.weight.numel() for each in layers):
        raise MuxwrapError(
            f"torch's dynamic quantisation is for linear maps, and {type(subject.model).__name__} is made of convolutions; "
            "give a rival of your own with register_rival"
        )
    yield Variant("int8", train=False, serve=quantised)


def quantised(model: nn.Module) -> nn.Module:
    """Return a copy whose linear maps have weights of eight bits."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.ao.quantization is deprecated")
        warnings.filterwarnings("ignore", message=".*are deprecated and will be")  # the tensors that it makes
        found: nn.Module = torch.ao.quantization.quantize_dynamic(model.float(), {nn.Linear}, dtype=torch.qint8)
    return found
