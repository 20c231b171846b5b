"""Side inputs: what a backbone gets about every row besides its tokens (masks, positions, types, boxes).

A stem gets those of its rows, a trunk gets them merged: the trunk runs on mixtures. The functions are hooks, called with the
running call first.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from muxwrap._hooks.adapters import arguments_of
from muxwrap._hooks.call import Call
from muxwrap._hooks.grouping import LEFT_OUT, demand, merge_masks, merge_side_inputs
from muxwrap._hooks.pairs import check_pairs
from muxwrap._hooks.restarts import check_restarts
from muxwrap._util.meta import is_meta
from muxwrap._util.nested import first_tensor, map_tensors, replace_object
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site

MASK = "attention_mask"
POSITIONS = "position_ids"
_OTHERS = (POSITIONS, "token_type_ids", "bbox")


def read(call: Call, module: nn.Module, args: Any, kwargs: Any) -> None:
    """Keep the side inputs in the call of a module; the mask tells what of an instance is padding."""
    for name, at in _arguments(module):
        value = args[at] if _positional(at, args) else kwargs.get(name)
        if isinstance(value, Tensor) and value.ndim > 1:
            call.side_inputs[name] = value


def merge(call: Call, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a module with every side input merged."""
    read(call, module, args, kwargs)
    own, always = call.side_inputs, call.model.sites.mask is MaskMode.ALWAYS
    if always and MASK not in own:
        full = _full_mask(args, kwargs)
        own |= {} if full is None else {MASK: full}
    instead: dict[str, Tensor | None] = {}
    if not always and MASK in own and _pads_nothing(own[MASK]):
        del own[MASK]
        instead[MASK] = None  # attention is faster without a mask, and mixing has nothing to leave out
    prefix = call.model.demuxer.prefix_length
    if POSITIONS in own and any(name == POSITIONS for name, _ in _arguments(module)):
        check_restarts(call.group(own[POSITIONS]), call.group(own[MASK]) if MASK in own else None)
    for name, value in own.items():
        grouped = call.group(value)
        if name.endswith(MASK):
            check_pairs(f"the backbone is given {name}", grouped)
        merged = merge_masks if name.endswith(MASK) else partial(merge_side_inputs, name)
        instead[name] = call.merged[name] = merged(grouped, prefix)
    for name, at in _arguments(module):
        if name in instead and _positional(at, args):
            args = (*args[:at], instead[name], *args[at + 1 :])
        elif name in instead:
            kwargs = {**kwargs, name: instead[name]}
    return args, kwargs


def drop(call: Call, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a module without side inputs; the strategy may still read the mask."""
    read(call, module, args, kwargs)
    for name, at in _arguments(module):
        if _positional(at, args):
            args = (*args[:at], None, *args[at + 1 :])
        kwargs = {key: value for key, value in kwargs.items() if key != name}
    return args, kwargs


def put_stand_in(call: Call, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call with a stand-in of as many rows as there are mixtures in the place of the batch.

    It holds :func:`unread_in`, since only its size may be read: rows of the batch would hide that a backbone reads pixels
    there, too.
    """
    batch = first_tensor((args, kwargs))
    if batch is None:
        return args, kwargs
    unread = batch.new_full((1,) * batch.ndim, unread_in(batch.dtype))
    call.batch, call.stand_in = batch, unread.expand(call.mixtures_of(batch), *batch.shape[1:])
    return replace_object((args, kwargs), batch, call.stand_in)


def unread_in(dtype: torch.dtype) -> float:
    """Return the number that a stand-in holds: NaN, or among whole numbers one that no table has."""
    return torch.nan if dtype.is_floating_point else torch.iinfo(dtype).min


def restore(call: Call, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a stem with the batch and the rows' own side inputs."""
    if call.stand_in is not None:
        args, kwargs = replace_object((args, kwargs), call.stand_in, call.batch)
    for name, merged in call.merged.items():
        args, kwargs = replace_object((args, kwargs), merged, call.side_inputs[name])
    return args, kwargs


def merge_unnamed(call: Call, _module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Return the call of a layer with every tensor merged that has the batch's rows: attention biases and the like."""
    return None if call.rows is None else map_tensors((args, kwargs), partial(_merge_unnamed, call))


def _merge_unnamed(call: Call, value: Tensor) -> Tensor:
    if value.ndim < 2 or value.shape[0] != call.rows or call.n == 1:
        return value
    for own, merged in call.unnamed:  # layer after layer gets the same ones
        if own is value:
            return merged
    grouped = call.group(value)
    merged = merge_masks(grouped, 0)
    # Ids are often given for their shape alone, as to tables of positions; sites.company tells where they are read.
    if value.is_floating_point():
        _check_not_separated(call, value)
        _check_mask(grouped, merged)
    if value.is_floating_point() or value.dtype == torch.bool:
        check_pairs("a layer is given a mask", grouped)
    call.unnamed.append((value, merged))
    return merged


def _check_not_separated(call: Call, value: Tensor) -> None:
    """Refuse states that were separated and go on into a layer that runs on mixtures, such as an encoder's into a decoder."""
    passed = [str(site) for site, count in zip(call.model.sites.demux, call.separated, strict=True) if count]
    if passed:
        raise MuxwrapError(
            f"a layer that runs on mixtures is given a tensor {list(value.shape)} of the rows after the {passed[0]} separated "
            "them: mixtures go on from what is mixed. Separate with demux_at= only before heads, after which nothing is mixed"
        )


def _check_mask(grouped: Tensor, merged: Tensor) -> None:
    """Refuse what rows that share a mixture do not agree in, unless it is a mask: of 0 and 1, or far below zero."""
    problem = (
        f"a layer is given a tensor {list(grouped.flatten(0, 1).shape)} of the rows, which is no mask and differs between rows "
        "that share a mixture, for which the layer runs once: mix it as well with mux_at=[..., the module that makes it] if it "
        "has as many features, or mix after it was read with mux_at="
    )
    demand(((grouped == merged.unsqueeze(1)) | (grouped == 0) | (grouped < LEFT_OUT)).all(), problem)


def mask_of(call: Call, k: int, x: Tensor) -> Tensor | None:
    """Return the rows' own mask where they are embedded by mux site ``k``, ``[B, L]``; there are tokens ``x`` there."""
    if k in call.keep:
        keep = call.keep[k]
        if keep.shape[0] != x.shape[0]:  # a mask for every head
            return None
        at = torch.arange(x.shape[1], device=x.device) if x.ndim > 2 else None
        return keep if keep.ndim > 1 or at is None else at < keep.to(x.device).unsqueeze(1)
    sites = call.model.sites
    if sites.padding_read or (sites.mask is MaskMode.IGNORED and not call.model.strategy.reads_mask):
        return None
    mask = call.side_inputs.get(MASK if k == 0 else "decoder_" + MASK)
    return mask if mask is None or call.id_rows is None else call.group(mask).flatten(0, 1)


def takes_mask(module: nn.Module) -> bool:
    """Whether a module's forward names an ``attention_mask`` (or ``pixel_attention_mask``, ...)."""
    return any(name.endswith(MASK) for name, _ in _arguments(module))


def layers_after(backbone: nn.Module, site: Site) -> list[nn.Module]:
    """Return the modules that run after a site among layers: its later siblings, and itself if its input is mixed."""
    parent, _, name = site.path.rpartition(".")
    children = dict(backbone.get_submodule(parent).named_children())
    start = list(children).index(name) + (site.side == "output") if name in children else len(children)
    return list(children.values())[start:]


def _arguments(module: nn.Module) -> list[tuple[str, int | None]]:
    """Return the names of the side inputs that a module's forward takes, and their places; any mask counts."""
    return [(name, at) for name, at in arguments_of(module) if is_side_input(name)]


def is_side_input(name: str) -> bool:
    """Whether an argument of this name is merged by its name."""
    return name.endswith(MASK) or name in _OTHERS


def _positional(at: int | None, args: tuple[Any, ...]) -> TypeGuard[int]:
    return at is not None and at < len(args)


def _pads_nothing(mask: Tensor) -> bool:
    """Whether a mask of 0 and 1 leaves nothing out; not asked in compiled code, where the answer would break the graph."""
    return mask.ndim == 2 and not torch.compiler.is_compiling() and not is_meta(mask) and bool((mask == 1).all())


def _full_mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a mask of ones for the first tensor of the call, ``[rows, length]``."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim >= 2:
            return torch.ones(value.shape[:2], dtype=torch.long, device=value.device)
    return None
