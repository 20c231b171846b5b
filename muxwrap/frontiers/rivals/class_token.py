"""The class token alone in the last layer: exact where the head reads nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from muxwrap._util.examples import quiet, run
from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.registry import Subject, Variant, register_rival
from muxwrap.frontiers.rivals.first_token import BertFirstToken, BlockFirstToken
from muxwrap.training.teaching import answers_of

WAY_OUT = "give the plain model in which it does as a rival of your own, with register_rival"


@register_rival("class token")
def class_token(subject: Subject) -> Iterator[Variant]:
    """Yield the model whose last layer computes the class token alone, of the keys of all tokens.

    Raises:
        MuxwrapError: the last layer is of another make, or the head reads other tokens too.
    """
    if subject.blocks is None or not subject.blocks.tokens:
        raise MuxwrapError(f"{type(subject.model).__name__} has no list of layers that pass tokens on; {WAY_OUT}")
    path = subject.blocks.paths[-1]
    model = class_token_alone(copy.deepcopy(subject.model), path)
    try:
        with quiet(model, subject.model):
            found, wanted = (answers_of(run(each, subject.batch)) for each in (model, subject.model))
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise MuxwrapError(
            f"the model reads more of its last layer than the class token ({reason}); {WAY_OUT}"
        ) from error
    yield Variant(
        "class token alone in the last layer",
        partial(class_token_alone, path=path),
        train=False,
        layers=len(subject.blocks.paths),
    )


def can_stand_alone(subject: Subject) -> bool:
    """Whether the last layer can compute the class token alone."""
    try:
        return bool(list(class_token(subject)))
    except MuxwrapError:
        return False


def alone_if_it_can(subject: Subject, model: nn.Module, layers: int | None = None) -> nn.Module:
    """Let the last of so many layers compute the class token alone, in place, where that is exact: a rival is due it."""
    if not subject.alone or subject.blocks is None:
        return model
    kept = subject.blocks.paths if layers is None else subject.blocks.kept(layers)
    return class_token_alone(model, kept[-1])


def class_token_alone(model: nn.Module, path: str) -> nn.Module:
    """Let the layer at a path compute its first token alone, in place.

    Raises:
        MuxwrapError: it is neither a layer of BERT's make nor a block of timm's vision transformers.
    """
    layer = model.get_submodule(path)
    kind = next((kind for kind in (BertFirstToken, BlockFirstToken) if kind.fits(layer)), None)
    if kind is None:
        raise MuxwrapError(
            f"{path} is a {type(layer).__name__}, neither a layer of BERT's make nor a block of timm's vision "
            f"transformers; {WAY_OUT}"
        )
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, kind(layer))
    return model
