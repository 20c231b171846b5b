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
    mask, ids = call.side_inputs.get(MASK), call.side_inputs.get("input_ids")
    if mask is not None and mask.shape[1:] != x.shape[2:3]:
        raise MuxwrapError(
            f"{strategy.name} leaves padding out by a mask [rows, {x.shape[2]}], and got one of shape {list(mask.shape)}; "
            "give one number per token"
        )
    mask = mask if mask is None else mask.expand(call.rows or 1, -1)
    grouped = [None if each is None else call.group(each) for each in (mask, ids)]
    call.places = strategy.place(x, *grouped)
    pooled: Tensor = call.places.pool(x)
    call.unpooled = x, pooled
    return pooled * strategy.factor


def unplace(call: Call, h: Tensor, first_token: bool) -> Tensor:
    """Give every token what became of its place, and what it had more than the mean: ``[g, M, d] -> [B, L or 1, d]``."""
    assert call.places is not None and call.unpooled is not None and call.rows is not None
    before, pooled = call.unpooled
    beside = (before[:, :, :1] if first_token else before) - call.places.spread(pooled, first_token)
    return ungroup(call.places.spread(h / call.model.strategy.factor, first_token) + beside, call.rows, call.order)
