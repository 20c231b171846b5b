"""Narrower layers: of the features between the two linear maps of a layer, those that count least are left out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.registry import Subject, Variant, register_rival
from muxwrap.frontiers.rivals.class_token import alone_if_it_can

SHARES = (0.5, 0.25)


@register_rival("narrower")
def narrower(subject: Subject) -> Iterator[Variant]:
    """Yield the model with half and a quarter of the features between the linear maps of every layer.

    What counts is the product of the norms of the weights into a feature and out of it.

    Raises:
        MuxwrapError: a layer has not two linear maps of which one reads what the other gives.
    """
    for path in () if subject.blocks is None else subject.blocks.paths:
        _maps(subject.model.get_submodule(path), path)
    if subject.blocks is None:
        raise MuxwrapError(
            f"no list of layers found in {type(subject.model).__name__} whose linear maps could be narrowed; give a rival of "
            "your own with register_rival"
        )
    for share in SHARES:
        yield Variant(
            f"{share:.0%} of the inner features",
            partial(_narrowed, subject, share),
            layers=len(subject.blocks.paths),
        )


def _narrowed(subject: Subject, share: float, model: nn.Module) -> nn.Module:
    assert subject.blocks is not None
    for path in subject.blocks.paths:
        layer = model.get_submodule(path)
        into, out = _maps(layer, path)
        first, last = layer.get_submodule(into), layer.get_submodule(out)
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        counts = first.weight.norm(dim=1) * last.weight.norm(dim=0)
        kept = counts.topk(max(1, round(share * first.out_features))).indices.sort().values
        bias = first.bias
        _replace(layer, into, first.weight[kept], None if bias is None else bias[kept])
        _replace(layer, out, last.weight[:, kept], last.bias)
    return alone_if_it_can(subject, model)


def _maps(layer: nn.Module, path: str) -> tuple[str, str]:
    """Return the names of the linear map that widens and of the one that reads it.

    Raises:
        MuxwrapError: there are not exactly two.
    """
    linear = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
    into = [name for name, module in linear if module.out_features > module.in_features and not name.endswith("qkv")]
    wide = {layer.get_submodule(name).out_features for name in into}
    out = [name for name, module in linear if module.in_features in wide and module.in_features > module.out_features]
    if len(into) != 1 or len(out) != 1:
        raise MuxwrapError(
            f"{path} is a {type(layer).__name__} without a pair of linear maps that widens and narrows again; give a rival of "
            "your own with register_rival"
        )
    return into[0], out[0]


def _replace(layer: nn.Module, name: str, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device=weight.device, dtype=weight.dtype)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    parent, _, last = name.rpartition(".")
    setattr(layer.get_submodule(parent), last, made)
