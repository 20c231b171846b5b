"""What modules between the sites are given of the rows besides what is mixed: masks of any name, lengths, conditions.

The functions are hooks, called with the running call first. How a backbone with an ``attention_mask`` of its own gets it is
in :mod:`muxwrap._hooks.side_inputs`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muxwrap._hooks.call import Call
from muxwrap._hooks.grouping import LEFT_OUT, demand, differ_in_what_is_left_out
from muxwrap._hooks.pairs import check_pairs
from muxwrap._util.nested import named_arguments, replace_object
from muxwrap.errors import MuxwrapError
from muxwrap.site import SideInput


def read(call: Call, path: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
    """Keep what is padding, where a module is given it before anything is mixed."""
    if call.rows is not None:
        return
    arguments = named_arguments(args, kwargs)
    for side in call.model.sites.sides:
        if side.site is not None and side.first is not None and side.first[0] == path:
            value = arguments.get(side.first[1])
            if value is not None and value.ndim:
                call.keep[side.site] = _kept(side, value)


def merge(call: Call, path: str, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a module between the sites with what it is given of the rows merged."""
    if call.rows is None or call.n == 1 or call.separated[0]:
        return None
    arguments = named_arguments(args, kwargs)
    for side in call.model.sites.sides:
        value = arguments.get(side.argument) if side.path == path else None
        if value is None or not value.ndim:
            continue
        if value.shape[0] == call.rows:
            args, kwargs = replace_object((args, kwargs), value, _merged(call, side, value))
        elif value.ndim == 3 and value.shape[0] % call.rows == 0:  # [B * heads, queries, keys]
            merged = _merged(call, side, value.unflatten(0, (call.rows, -1))).flatten(0, 1)
            args, kwargs = replace_object((args, kwargs), value, merged)
    return args, kwargs


def _kept(side: SideInput, value: Tensor) -> Tensor:
    """Return which positions count, ``[B, L]`` (or more axes, where queries differ), or how many do, ``[B]``."""
    if side.kind == "lengths":
        return value
    if value[0].numel() == value.shape[-1]:  # [B, 1, 1, L]
        value = value.flatten(1)
    return {"keep": value != 0, "padding": value == 0, "additive": value > LEFT_OUT}[side.kind]


def _merged(call: Call, side: SideInput, value: Tensor) -> Tensor:
    grouped = call.group(value)
    if side.kind in ("same", "constant"):
        _demand_same(side, (grouped == grouped[:, :1]).all())
        return grouped[:, 0]
    if side.kind == "additive":
        _demand_same(side, differ_in_what_is_left_out(grouped))
    prefix = call.model.demuxer.prefix_length
    if side.kind == "lengths":
        return grouped.amax(1) + prefix
    check_pairs(f"{_name(side)} is given {side.argument}", grouped == 0 if side.kind == "padding" else grouped)
    if side.kind == "padding":
        merged = grouped.all(1) if grouped.dtype == torch.bool else grouped.amin(1)
    else:
        merged = grouped.any(1) if grouped.dtype == torch.bool else grouped.amax(1)
    if grouped.is_floating_point() and side.kind != "additive":
        _demand_same(side, ((grouped == merged.unsqueeze(1)) | (grouped == (side.kind == "padding"))).all())
    if not prefix:
        return merged
    if merged[0].numel() != merged.shape[-1]:
        raise MuxwrapError(
            f"{_name(side)} is given {side.argument} {list(value.shape)}, and a prefix of {prefix} tokens before every mixture "
            "has no place in it; take a demuxer without a prefix ('key', 'mlp', 'unbind')"
        )
    return F.pad(merged, (prefix, 0), value=1 if side.kind == "keep" else 0)


def _name(side: SideInput) -> str:
    return side.path or "the backbone"


def _demand_same(side: SideInput, agree: Tensor) -> None:
    problem = (
        f"{_name(side)} is given {side.argument} of the rows, which differs between rows that share a mixture, for which the "
        "module runs once: put rows that agree in it next to each other, mix it as well with mux_at=[..., the module that "
        f"makes it] if it has as many features, mix after it was read with mux_at={side.path!r}, or separate "
        "before with demux_at="
    )
    demand(agree, problem)
