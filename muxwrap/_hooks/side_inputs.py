"""What a backbone is told about every row beside its tokens (masks, positions, types, boxes), the rows' and the mixtures'.

A stem gets what belongs to its rows, a trunk gets it merged: the trunk runs on mixtures.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.grouping import group, merge_mask, merge_rows
from muxwrap._util.nested import first_tensor, map_tensors, replace_object
from muxwrap.site import Site

MASK = "attention_mask"
_FACTS = ("position_ids", "token_type_ids", "bbox")


class RowFacts:
    """What one call was told, and what is said instead.

    Args:
        n: instances in a mixture.
        prefix: tokens before every mixture.
        always: whether :meth:`merge` says a full mask where the rows have none.
    """

    def __init__(self, n: int, prefix: int, always: bool) -> None:
        self.n = n
        self.prefix = prefix
        self.always = always
        self.rows: int | None = None  # of the batch, known once something was mixed
        self.own: dict[str, Tensor] = {}  # [B, L] or more axes
        self.merged: dict[str, Tensor] = {}  # [g, prefix + L], likewise
        self.handed: list[tuple[Tensor, Tensor]] = []  # the same for what has no name
        self.held: tuple[Tensor, Tensor] | None = None  # the stand-in for the batch, and the batch

    def note(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Keep what the call of a module says; its mask says what of an instance is padding."""
        for name, at in _arguments(module):
            value = args[at] if at < len(args) else kwargs.get(name)
            if isinstance(value, Tensor) and value.ndim > 1:
                self.own[name] = value

    def merge(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the call of a module with everything merged."""
        self.note(module, args, kwargs)
        if self.always and MASK not in self.own:
            full = _full_mask(args, kwargs)
            self.own |= {} if full is None else {MASK: full}
        said: dict[str, Tensor | None] = {}
        if not self.always and MASK in self.own and _pads_nothing(self.own[MASK]):
            del self.own[MASK]
            said[MASK] = None  # attention is faster without a mask, and mixing has nothing to leave out
        for name, own in self.own.items():
            merge = merge_mask if name.endswith(MASK) else partial(merge_rows, name)
            said[name] = self.merged[name] = merge(group(own, self.n), self.prefix)
        for name, at in _arguments(module):
            if name in said and at < len(args):
                args = (*args[:at], said[name], *args[at + 1 :])
            elif name in said:
                kwargs = {**kwargs, name: said[name]}
        return args, kwargs

    def drop(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the call of a module with nothing said beside the tokens; the strategy may still ask for the mask."""
        self.note(module, args, kwargs)
        for name, at in _arguments(module):
            if at < len(args):
                args = (*args[:at], None, *args[at + 1 :])
            kwargs = {key: value for key, value in kwargs.items() if key != name}
        return args, kwargs

    def hold_back(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the call with a stand-in of as many rows as there are mixtures in the place of the batch.

        It holds NaN, since only its size may be read: rows of the batch would hide that a backbone reads pixels there, too.
        """
        batch = first_tensor((args, kwargs))
        if batch is None:
            return args, kwargs
        unread = batch.new_full((1,) * batch.ndim, torch.nan)
        self.held = (unread.expand(-(-batch.shape[0] // self.n), *batch.shape[1:]), batch)
        return replace_object((args, kwargs), batch, self.held[0])

    def restore(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the call with what belongs to the rows."""
        if self.held is not None:
            args, kwargs = replace_object((args, kwargs), *self.held)
        for name, merged in self.merged.items():
            args, kwargs = replace_object((args, kwargs), merged, self.own[name])
        return args, kwargs

    def merge_handed(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the call with every tensor merged that has the batch's rows: attention biases and the like."""
        return None if self.rows is None else map_tensors((args, kwargs), self._merge_handed)

    def _merge_handed(self, value: Tensor) -> Tensor:
        if value.ndim < 2 or value.shape[0] != self.rows or self.n == 1:
            return value
        for own, merged in self.handed:  # layer after layer is handed the same ones
            if own is value:
                return merged
        merged = merge_mask(group(value, self.n), 0)
        self.handed.append((value, merged))
        return merged


def takes_mask(module: nn.Module) -> bool:
    """Whether a module's forward names an ``attention_mask`` (or ``pixel_attention_mask``, ...)."""
    return any(name.endswith(MASK) for name, _ in _arguments(module))


def layers_after(backbone: nn.Module, site: Site) -> list[nn.Module]:
    """Return the modules that run behind a site among layers: its later siblings, and itself if its input is mixed."""
    parent, _, name = site.path.rpartition(".")
    children = dict(backbone.get_submodule(parent).named_children())
    start = list(children).index(name) + (site.side == "output") if name in children else len(children)
    return list(children.values())[start:]


def _arguments(module: nn.Module) -> list[tuple[str, int]]:
    """Return what a module's forward is told by name, and the place of the argument.

    Masks are those of a decoder and Longformer's global one, too.
    """
    names = enumerate(inspect.signature(module.forward).parameters)
    return [(name, at) for at, name in names if name.endswith(MASK) or name in _FACTS]


def _pads_nothing(mask: Tensor) -> bool:
    """Whether a mask of 0 and 1 leaves nothing out; not asked in compiled code, where the answer would break the graph."""
    return mask.ndim == 2 and not torch.compiler.is_compiling() and bool((mask == 1).all())


def _full_mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a mask of ones for the first tensor of the call, ``[rows, length]``."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim >= 2:
            return torch.ones(value.shape[:2], dtype=torch.long, device=value.device)
    return None
