"""Mixtures with tokens of their own: how rows get there and back, and which layers run on them.

A strategy that places tokens (:attr:`~muxwrap.strategies.Strategy.places_tokens`) says which token of a mixture holds which
tokens of the instances. Called as in :mod:`muxwrap._hooks.mixing`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muxwrap._hooks.adapters import arguments_of
from muxwrap._hooks.call import Call
from muxwrap._hooks.grouping import ungroup
from muxwrap._hooks.side_inputs import MASK, read
from muxwrap._util.nested import first_tensor, replace_object
from muxwrap.errors import MuxwrapError


def read_rows(call: Call, module: nn.Module, args: Any, kwargs: Any) -> None:
    """Keep the mask and the token ids in the call of the backbone."""
    read(call, module, args, kwargs)
    names = [name for name, at in arguments_of(module) if at is not None]
    ids = {**dict(zip(names, args, strict=False)), **kwargs}.get("input_ids")
    if isinstance(ids, Tensor):
        call.side_inputs["input_ids"] = ids


def place(call: Call, x: Tensor) -> Tensor:
    """Mix grouped rows ``[g, n, L, d]`` into ``[g, M, d]`` and keep their places, and what a mean does not tell of them."""
    strategy: Any = call.model.strategy
    if x.ndim != 4:
        raise MuxwrapError(
            f"{strategy.name} pools tokens [rows, L, d], and got rows {list(x.shape[2:])}; name a module with mux_at= that "
            "passes tokens on"
        )
    mask = call.side_inputs.get(MASK)
    if mask is not None and mask.shape[1:] != x.shape[2:3]:
        raise MuxwrapError(
            f"{strategy.name} leaves padding out by a mask [rows, {x.shape[2]}], and got one of shape {list(mask.shape)}; "
            "give one number per token"
        )
    if call.n == 1 and not getattr(strategy, "again", ()):  # a mixture is a row, and its layers get what is theirs
        return x.squeeze(1) * strategy.factor
    return _place(call, x) * strategy.factor


def place_again(call: Call, times: int, _layer: nn.Module, args: Any, kwargs: Any) -> Any:
    """Give a layer fewer tokens of every instance, the means over ``times`` n neighbours: ``[g, M, d] -> [g, M / s, d]``.

    A token of the mixture counts as often as it holds tokens, since it is first given to all of them.
    """
    tokens, old = first_tensor((args, kwargs)), call.places
    if tokens is None or old is None or call.unpooled is None:
        return None
    _place(call, call.unpooled[0], times)
    call.fitted = []  # that was for the tokens there were
    assert call.places is not None
    return replace_object((args, kwargs), tokens, call.places.pool(old.spread(tokens)))


def _place(call: Call, x: Tensor, times: int = 1) -> Tensor:
    """Keep the places of grouped rows and their means, and return those: ``[g, n, L, d] -> [g, M, d]``."""
    strategy: Any = call.model.strategy
    mask, ids = call.side_inputs.get(MASK), call.side_inputs.get("input_ids")
    mask = mask if mask is None else mask.expand(call.rows or 1, -1)
    grouped = [None if each is None else call.group(each) for each in (mask, ids)]
    call.places = strategy.place(x, *grouped) if times == 1 else strategy.place(x, *grouped, times=times)
    pooled: Tensor = call.places.pool(x)
    call.unpooled = x, pooled
    return pooled


def unplace(call: Call, h: Tensor, first_token: bool) -> Tensor:
    """Give every token what became of its place, and what it had more than the mean: ``[g, M, d] -> [B, L or 1, d]``."""
    assert call.rows is not None
    if call.places is None:
        own = (h[:, :1] if first_token else h) / call.model.strategy.factor
        return ungroup(own.unsqueeze(1), call.rows, call.order)
    assert call.unpooled is not None
    before, pooled = call.unpooled
    beside = (before[:, :, :1] if first_token else before) - call.places.spread(pooled, first_token)
    return ungroup(call.places.spread(h / call.model.strategy.factor, first_token) + beside, call.rows, call.order)
