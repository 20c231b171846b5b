"""Layers that run on mixtures with tokens of their own: what they get besides the tokens is made to fit those.

A strategy that places tokens (:attr:`~muxwrap.strategies.Strategy.places_tokens`) says which token of a mixture holds which
tokens of the instances. The layers between the sites then get, instead of what the backbone made for its rows, masks that
keep the instances apart and positions of the tokens that they see. Called as in :mod:`muxwrap._hooks.mixing`.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.call import Call
from muxwrap._hooks.grouping import group, ungroup
from muxwrap._hooks.side_inputs import MASK, read
from muxwrap._util.nested import first_tensor, map_tensors
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site

_OF_PAIRS = re.compile("mask|bias|rel")
"""Names of what a layer gets about pairs of tokens; anything else is about single ones."""


def read_rows(call: Call, module: nn.Module, args: Any, kwargs: Any) -> None:
    """Keep the mask and the token ids in the call of the backbone."""
    read(call, module, args, kwargs)
    names = list(inspect.signature(module.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    ids = given.get("input_ids")
    if isinstance(ids, Tensor):
        call.side_inputs["input_ids"] = ids


def place(call: Call, x: Tensor) -> Tensor:
    """Mix grouped rows ``[g, n, L, d]`` into ``[g, M, d]`` and keep their places, and what a mean does not tell of them."""
    strategy: Any = call.model.strategy
    if x.ndim != 4:
        raise MuxwrapError(f"{strategy.name} pools tokens [rows, L, d], and got rows {list(x.shape[2:])}")
    mask, ids = call.side_inputs.get(MASK), call.side_inputs.get("input_ids")
    if mask is not None and mask.shape[1:] != x.shape[2:3]:
        raise MuxwrapError(
            f"{strategy.name} leaves padding out by a mask [rows, {x.shape[2]}], and got one of shape {list(mask.shape)}"
        )
    grouped = [None if each is None else group(each, call.n) for each in (mask, ids)]
    call.places = strategy.place(x, *grouped)
    pooled: Tensor = call.places.pool(x)
    call.unpooled = x, pooled
    return pooled * strategy.factor


def unplace(call: Call, h: Tensor, first_token: bool) -> Tensor:
    """Give every token what became of its place, and what it had more than the mean: ``[g, M, d] -> [B, L or 1, d]``."""
    assert call.places is not None and call.unpooled is not None and call.rows is not None
    before, pooled = call.unpooled
    beside = (before[:, :, :1] if first_token else before) - call.places.spread(pooled, first_token)
    return ungroup(call.places.spread(h / call.model.strategy.factor, first_token) + beside, call.rows)


def fit_arguments(call: Call, layer: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a layer with masks, biases and positions for the tokens of the mixtures."""
    if call.places is None:
        return None
    tokens = first_tensor((args, kwargs))
    names = list(inspect.signature(layer.forward).parameters)
    mask = mask_name(layer)
    if mask is None or tokens is None:
        raise MuxwrapError(
            f"the layers ({type(layer).__name__}) take no attention mask, and without one {call.model.strategy.name} cannot "
            "keep the instances of a mixture apart"
        )
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    made = {name: _fitted(call, name, value, tokens) for name, value in named.items() if name != mask}
    made[mask] = _mask(call, named.get(mask), tokens)
    args = tuple(made.pop(name) for name in names[: len(args)])
    return args, made


def mask_name(layer: nn.Module) -> str | None:
    """Return the name under which a layer takes the mask of its self-attention, if it does."""
    names = inspect.signature(layer.forward).parameters
    return next((name for name in names if name in ("attention_mask", "attn_mask")), None)


def layers_between(backbone: nn.Module, mux: Site, demux: Site) -> list[nn.Module]:
    """Return the layers that run on mixtures: those after the mux site in its list of layers, up to the demux site."""
    parent, name = list_around(backbone, mux.path)
    children = dict(backbone.get_submodule(parent).named_children())
    inside = mux.path != f"{parent}.{name}".lstrip(".")
    order = list(children)
    start = order.index(name) + (inside or mux.side == "output")
    last, ends = list_around(backbone, demux.path)
    stop = order.index(ends) + (demux.side == "output") if last == parent else len(order)
    return [children[each] for each in order[start:stop]]


def list_around(backbone: nn.Module, path: str) -> tuple[str, str]:
    """Return the path of the innermost list of layers around a module, and the name of the layer there; "" for none."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        parent = ".".join(names[:depth])
        if isinstance(backbone.get_submodule(parent), (nn.ModuleList, nn.Sequential)):
            return parent, names[depth]
    return "", ""


def _mask(call: Call, own: Any, tokens: Tensor) -> Tensor:
    """Return the mask of the mixtures' tokens in the form of the rows' mask: scores, or 0 and 1."""
    for of_rows, made in call.fitted:
        if of_rows is own:
            return made
    theirs = _fitted_tensor(call, MASK, own) if isinstance(own, Tensor) and own.ndim > 2 else None
    made = _scores(call, tokens, theirs) if theirs is None or not _are_flags(call, own) else _flags(call, theirs)
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


def _fitted(call: Call, name: str, value: Any, tokens: Tensor) -> Any:
    """Return what a layer gets under a name, for the tokens of the mixtures."""
    return map_tensors(value, lambda each: each if each is tokens else _fitted_once(call, name, each))


def _fitted_once(call: Call, name: str, value: Tensor) -> Tensor:
    for of_rows, made in call.fitted:  # layer after layer gets the same ones
        if of_rows is value:
            return made
    made = _fitted_tensor(call, name, value)
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
    return group(value.expand(call.rows or 1, *value.shape[1:]), call.n)
