"""Token ids cannot be mixed, their embeddings can: Transformers models take those in the place of ids."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.adapters import arguments_of
from muxwrap._util.nested import first_tensor, replace_object

EMBEDS = "inputs_embeds"


def declared_embedding(module: nn.Module) -> nn.Module | None:
    """Return the module that embeds token ids by the model's own account, as Transformers models give it."""
    try:
        return module.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None


def token_embedding(module: nn.Module) -> nn.Module | None:
    """Return the module that embeds token ids, if the model also takes ``inputs_embeds`` instead of ids."""
    return declared_embedding(module) if EMBEDS in dict(arguments_of(module)) else None


def taker_of_embeds(backbone: nn.Module, path: str) -> nn.Module | None:
    """Return the module around the token embedding at a path that leaves it out where it is given ``inputs_embeds``."""
    embedding = backbone.get_submodule(path)
    while path:
        path = path.rpartition(".")[0]
        module = backbone.get_submodule(path)
        if token_embedding(module) is embedding:
            return module
    return None


def embedded(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict, Tensor | None]:
    """Return the call with its token ids taken out, and their embeddings; None where the call has no ids to embed."""
    if isinstance(kwargs.get(EMBEDS), Tensor):
        return args, kwargs, kwargs[EMBEDS]
    tokens = first_tensor((args, kwargs))
    embedding = None if tokens is None or tokens.is_floating_point() else token_embedding(module)
    if embedding is None:
        return args, kwargs, None
    args, kwargs = replace_object((args, kwargs), tokens, None)
    return args, kwargs, embedding(tokens)
