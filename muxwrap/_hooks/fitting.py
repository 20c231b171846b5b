"""Layers that run on mixtures with tokens of their own: what they get besides the tokens is made to fit those.

The backbone makes masks, biases and positions for its rows. The layers between the sites get, instead, masks that keep the
instances apart and count every key as the tokens that it holds, and positions of the tokens in its middle.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks import torch_masks
from muxwrap._hooks.call import Call
from muxwrap._hooks.side_inputs import MASK
from muxwrap._util.forwards import forward_arguments
from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError

_OF_PAIRS = re.compile("mask|bias|rel")
"""Names of what a layer gets about pairs of tokens; anything else is about single ones."""


def fit_arguments(call: Call, layer: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a layer with masks, biases and positions for the tokens of the mixtures."""
    if call.places is None:
        return None
    call.key.fits_layers |= torch.is_grad_enabled()
    tokens = first_tensor((args, kwargs))
    names = list(forward_arguments(layer))
    mask = mask_name(layer)
    if mask is None or tokens is None:
        raise MuxwrapError(
            f"the layers ({type(layer).__name__}) take no attention mask, and without one {call.model.strategy.name} cannot "
            "keep the instances of a mixture apart; take a strategy that mixes features, such as 'slots'"
        )
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    made = {name: _fitted(call, layer, name, value, tokens) for name, value in named.items() if name != mask}
    made[mask] = _mask(call, layer, named.get(mask), tokens)
    if torch_masks.PADDING in made:
        made[torch_masks.PADDING] = None  # it is in the mask
    args = tuple(made.pop(name) for name in names[: len(args)])
    return args, made


def read_padding(call: Call, layer: nn.Module, args: Any, kwargs: Any) -> None:
    """Keep what is padding by the mask of the layer at the mux site, where the backbone names no mask of its own."""
    names = list(forward_arguments(layer))
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    name, padding = mask_name(layer), named.get(torch_masks.PADDING)
    own = None if name in (None, torch_masks.NAME) else named.get(name)
    if MASK in call.side_inputs:
        return
    if isinstance(padding, Tensor):
        call.side_inputs[MASK] = torch_masks.real(padding)
    elif isinstance(own, Tensor) and own.ndim > 1:
        seen = own != 0
        if own.is_floating_point():  # scores, or 0 and 1
            seen = torch.where((own == 1).any(), seen, own > -1e3)
        while seen.ndim > 2:  # heads, queries
            seen = seen.any(1)
        call.side_inputs[MASK] = seen


def mask_name(layer: nn.Module) -> str | None:
    """Return the name under which a layer takes the mask of its self-attention, if it does."""
    return next(
        (name for name in forward_arguments(layer) if name in ("attention_mask", "attn_mask", torch_masks.NAME)), None
    )


def _mask(call: Call, layer: nn.Module, own: Any, tokens: Tensor) -> Tensor:
    """Return the mask of the mixtures' tokens in the form of the rows' mask: scores, or 0 and 1."""
    for of_rows, made in call.fitted:
        if of_rows is own:
            return made
    of_torch = mask_name(layer) == torch_masks.NAME
    pairs = torch_masks.to_pairs(own, layer) if of_torch and own is not None else own
    theirs = _fitted_tensor(call, MASK, pairs) if isinstance(pairs, Tensor) and pairs.ndim > 2 else None
    flags = theirs is not None and not of_torch and _are_flags(call, own)
    made = _flags(call, theirs) if flags and theirs is not None else _scores(call, tokens, theirs)
    made = torch_masks.to_heads(made, layer) if of_torch else made
    call.fitted.append((own, made))
    return made


def _are_flags(call: Call, mask: Tensor) -> bool:
    """Whether a layer takes 0 and 1 and no scores. With log(size) it gets scores; which of both floats are shows in them."""
    places: Any = call.places
    if places.proportional or not mask.is_floating_point():
        return not places.proportional
    if torch.compiler.is_compiling():
        raise MuxwrapError(
            f"{call.model.strategy.name}(proportional=False) reads from a mask of {mask.dtype} whether it holds scores or 0 "
            "and 1, which compiled code cannot do; call the model without torch.compile"
        )
    return bool((mask == 1).any())


def _flags(call: Call, theirs: Tensor) -> Tensor:
    places: Any = call.places
    return ((theirs != 0) & places.seen()).to(theirs.dtype)


def _scores(call: Call, tokens: Tensor, theirs: Tensor | None) -> Tensor:
    places: Any = call.places
    own: Tensor = places.scores(tokens)
    least = torch.finfo(own.dtype).min
    if theirs is None:
        return own
    if theirs.is_floating_point():
        return (own + theirs.to(own.dtype)).clamp(min=least)
    return own.masked_fill(theirs == 0, least)


def _fitted(call: Call, layer: nn.Module, name: str, value: Any, tokens: Tensor) -> Any:
    """Return what a layer gets under a name, for the tokens of the mixtures."""
    return map_tensors(value, lambda each: each if each is tokens else _fitted_once(call, layer, name, each))


def _fitted_once(call: Call, layer: nn.Module, name: str, value: Tensor) -> Tensor:
    for of_rows, made in call.fitted:  # layer after layer gets the same ones
        if of_rows is value:
            return made
    made = _per_head(layer, name, _fitted_tensor(call, name, value))
    call.fitted.append((value, made))
    return made


def _fitted_tensor(call: Call, name: str, value: Tensor) -> Tensor:
    places: Any = call.places
    length = places.at.shape[2]
    if value.ndim < 2 or value.shape[0] not in (1, call.rows):
        return value
    sizes = value.shape[-2:]
    if value.ndim > 2 and _OF_PAIRS.search(name) and sizes[1] == length and sizes[0] in (1, length):
        return places.of_pairs(_grouped(call, value.expand(*value.shape[:-2], length, length)))
    if value.ndim > 2 and sizes[0] == length:
        return places.of_tokens(_grouped(call, value), value.ndim - 1)
    if value.ndim == 2 and sizes[1] == length and not value.is_floating_point():
        return places.of_tokens(_grouped(call, value), 2)
    return value


def _grouped(call: Call, value: Tensor) -> Tensor:
    return call.group(value.expand(call.rows or 1, *value.shape[1:]))


def _per_head(layer: nn.Module, name: str, made: Tensor) -> Tensor:
    """Return relative positions as DeBERTa-v2 takes them where they differ between sequences: ``[1, g·heads, M, M]``."""
    if type(layer).__name__ != "DebertaV2Layer" or name != "relative_pos" or made.ndim != 3:
        return made
    heads: Any = layer.get_submodule("attention.self").num_attention_heads
    return made.repeat_interleave(heads, 0).unsqueeze(0)
