"""Fewer layers: the first ones are kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.blocks import Blocks, keep
from muxwrap.frontiers.registry import Subject, Variant, register_rival
from muxwrap.frontiers.rivals.class_token import alone_if_it_can


@register_rival("layers")
def fewer_layers(subject: Subject) -> Iterator[Variant]:
    """Yield the model with fewer layers.

    Sajjad et al. 2023, "On the effect of dropping layers of pre-trained transformer models": the top layers go first.

    Raises:
        MuxwrapError: no layer can be left out.
    """
    blocks = subject.blocks
    if blocks is None:
        raise MuxwrapError(
            f"no list of layers of one make found in {type(subject.model).__name__}; give a rival of your own with "
            "register_rival"
        )
    for count in subject.layers:
        if count < len(blocks.paths):
            yield Variant(
                f"{count} layer{'s' if count > 1 else ''}", partial(_fewer, subject, blocks, count), layers=count
            )


def _fewer(subject: Subject, blocks: Blocks, count: int, model: nn.Module) -> nn.Module:
    return alone_if_it_can(subject, keep(model, blocks, count), count)
