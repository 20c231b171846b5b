"""Mixing and separating inside a backbone that nobody edits: forward hooks at the sites, and the facts of one call.

The hooks are bound methods of the module that owns them, so that a deepcopy's or an unpickled copy's hooks are its own
(closures would keep writing to the original). What belongs to one call (how many rows, which mask) lies in a
``threading.local`` and never on the module: two threads may be inside one model.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap.demuxers.base import Demuxer
from muxwrap.embeddings import EMBEDS, embedded
from muxwrap.errors import MuxwrapError
from muxwrap.grouping import group, merge_mask, merge_rows, ungroup
from muxwrap.layout import Site, Sites, features_back, features_last
from muxwrap.strategies.base import Strategy
from muxwrap.tensors import map_first_tensor, map_tensors, replace_object

_local = threading.local()
MASK = "attention_mask"


class _Call:
    """The facts of one forward call."""

    def __init__(self, owner: Attached) -> None:
        self.owner = owner
        self.rows: int | None = None  # of the batch, known once something was mixed
        self.own: dict[str, Tensor] = {}  # masks and the like as the user gave them, [B, L] or more axes
        self.merged: dict[str, Tensor] = {}  # [g, prefix + L], what the trunk gets instead
        self.merged_inside: list[tuple[Tensor, Tensor]] = []  # likewise, what layers are handed
        self.mixed = [0] * len(owner.sites.mux)
        self.separated = [0] * len(owner.sites.demux)


class Attached(nn.Module):
    """A backbone with mixing and separating attached at its sites.

    Outside of a call of this module the hooks do nothing: ``self.backbone(x)`` is the bare model.

    Args:
        backbone: any module; it is not edited.
        n: instances in a mixture.
        sites: where to mix and to separate, checked to exist by whoever found them.
        strategy: mixes ``[g, n, ..., dim]`` at every mux site.
        demuxers: one a demux site.
        check_finite: refuse NaN and infinity where instances are mixed; one bad row would spoil its whole group. Costs a
            synchronisation a call; not checked in compiled code.
    """

    def __init__(
        self,
        backbone: nn.Module,
        n: int,
        sites: Sites,
        strategy: Strategy,
        demuxers: Sequence[Demuxer],
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.n = n
        self.sites = sites
        self.strategy = strategy
        self.demuxers = nn.ModuleList(demuxers)
        self.check_finite = check_finite
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.attach()

    @property
    def demuxer(self) -> Demuxer:
        """The demuxer (of the first head, where a model has several)."""
        return self.demuxers[0]  # type: ignore[return-value]

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the backbone."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        if self.attached:
            return
        if self.sites.mask == "inside":
            self._before(self.backbone, self._note_rows)
        elif self.sites.mask != "none":
            self._before(self.backbone.get_submodule(self.sites.mask_at), self._merge_rows)
        for k, site in enumerate(self.sites.mux):
            module = self.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, partial(self._mix_input, k))
            else:
                self._before(module, self._restore_rows)
                self._handles.append(module.register_forward_hook(partial(self._mix_output, k)))
            if self.sites.mask in ("inside", "both"):
                for layer in _layers_after(self.backbone, site):
                    self._before(layer, self._merge_arguments)
        for k, site in enumerate(self.sites.demux):
            module = self.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, partial(self._separate_input, k))
            else:
                self._handles.append(module.register_forward_hook(partial(self._separate_output, k)))

    def detach(self) -> nn.Module:
        """Take every hook off and return the backbone, which keeps nothing of the attachment."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return self.backbone

    def _before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    # -- one call -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures."""
        call = _Call(self)
        outer = getattr(_local, "calls", ())
        _local.calls = (*outer, call)
        try:
            output = self.backbone(*args, **kwargs)
        finally:
            _local.calls = outer
        for site, count in zip(self.sites.mux, call.mixed, strict=True):
            _check_reached(site, count, "mixed")
        _check_reached(self.sites.demux[0], call.separated[0], "separated")
        return output

    def _call(self) -> _Call | None:
        """Return the running call of this module in this thread, if there is one."""
        for call in reversed(getattr(_local, "calls", ())):
            if call.owner is self:
                return call
        return None

    # -- mixing -------------------------------------------------------------------------------------------------------

    def _mix_output(self, k: int, _module: nn.Module, _args: Any, output: Any) -> Any:
        call = self._call()
        return None if call is None else map_first_tensor(output, partial(self._mix, call, k))

    def _mix_input(self, k: int, module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        if call is None:
            return None
        args, kwargs, embeds = embedded(module, args, kwargs)
        if embeds is not None:
            return args, {**kwargs, EMBEDS: self._mix(call, k, embeds)}
        return map_first_tensor((args, kwargs), partial(self._mix, call, k))

    def _mix(self, call: _Call, k: int, x: Tensor) -> Tensor:
        site = self.sites.mux[k]
        if not x.is_floating_point():
            raise MuxwrapError(
                f"mux_at={site.path!r} ({site.side}) holds {x.dtype} values; token ids cannot be mixed: mix their embeddings, "
                "for example mux_at='embeddings'"
            )
        if self.check_finite and not torch.compiler.is_compiling() and not bool(torch.isfinite(x).all()):
            bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero().flatten().tolist()
            raise MuxwrapError(
                f"NaN or infinity in rows {bad} at the {site}; they would spoil every row of their groups: drop them first"
            )
        call.rows = x.shape[0]
        call.mixed[k] += 1
        grouped = group(x, self.n)
        mask = call.own.get(MASK if k == 0 else "decoder_" + MASK)
        if mask is not None and x.ndim == 3 and mask.shape == x.shape[:2]:
            # What stands at an instance's padding is no part of it: it would only disturb the others.
            grouped = grouped * group(mask, self.n).unsqueeze(-1).to(x.dtype)
        mixture = self.strategy(features_last(grouped, site.axis, lead=2))
        mixture = features_back(mixture, tuple(x.shape), site.axis, lead=1)
        return self.demuxer.extend(mixture)

    # -- separating ---------------------------------------------------------------------------------------------------

    def _separate_input(self, k: int, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None else map_first_tensor((args, kwargs), partial(self._separate, call, k))

    def _separate_output(self, k: int, _module: nn.Module, _args: Any, output: Any) -> Any:
        call = self._call()
        return None if call is None else map_first_tensor(output, partial(self._separate, call, k))

    def _separate(self, call: _Call, k: int, h: Tensor) -> Tensor:
        site = self.sites.demux[k]
        demuxer: Demuxer = self.demuxers[k]  # type: ignore[assignment]
        call.separated[k] += 1
        if call.rows is None:
            raise MuxwrapError(f"the {site} is reached before anything was mixed; demux_at has to come after mux_at")
        # Not asked of traced code, whose number of groups may be free.
        if not torch.compiler.is_compiling() and h.shape[0] != -(-call.rows // self.n):
            raise MuxwrapError(
                f"the {site} holds {h.shape[0]} rows, and {call.rows} rows make {-(-call.rows // self.n)} mixtures of "
                f"{self.n}; demux_at has to be where a row is a mixture"
            )
        if site.first_token:
            h = h[:, : 1 + demuxer.prefix_length]
        separated = demuxer(features_last(h, site.axis, lead=1))
        return ungroup(features_back(separated, tuple(h.shape), site.axis, lead=2), call.rows)

    # -- masks --------------------------------------------------------------------------------------------------------

    def _merge_rows(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Put merged masks, positions and types in the places of the batch's own."""
        call = self._call()
        if call is None:
            return None
        prefix = self.demuxer.prefix_length
        for name, at in _row_arguments(module):
            value = args[at] if at < len(args) else kwargs.get(name)
            if value is None and name == MASK and self.sites.mask == "always":
                value = _full_mask(args, kwargs)
            if not isinstance(value, Tensor) or value.ndim < 2:
                continue
            grouped = group(value, self.n)
            call.own[name] = value
            call.merged[name] = (
                merge_mask(grouped, prefix) if name.endswith(MASK) else merge_rows(name, grouped, prefix)
            )
            if at < len(args):
                args = (*args[:at], call.merged[name], *args[at + 1 :])
            else:
                kwargs = {**kwargs, name: call.merged[name]}
        return args, kwargs

    def _note_rows(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Keep the mask that the call was given, which says what of an instance is padding."""
        call = self._call()
        for name, at in _row_arguments(module):
            value = args[at] if at < len(args) else kwargs.get(name)
            if call is not None and isinstance(value, Tensor):
                call.own[name] = value

    def _merge_arguments(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Merge whatever else of the batch's rows a layer behind the mixing is handed: masks, biases, positions."""
        call = self._call()
        return None if call is None else map_tensors((args, kwargs), partial(self._merge_inside, call))

    def _merge_inside(self, call: _Call, value: Tensor) -> Tensor:
        if call.rows is None or value.ndim < 2 or value.shape[0] != call.rows or self.n == 1:
            return value
        for own, merged in call.merged_inside:
            if own is value:
                return merged
        merged = merge_mask(group(value, self.n), 0)
        call.merged_inside.append((value, merged))
        return merged

    def _restore_rows(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Give the stem, which still sees the batch's rows, what belongs to those rows."""
        call = self._call()
        if call is None:
            return None
        for name, merged in call.merged.items():
            args, kwargs = replace_object((args, kwargs), merged, call.own[name])
        return args, kwargs


def _layers_after(backbone: nn.Module, site: Site) -> list[nn.Module]:
    """Return the modules that run behind a site among layers: its later siblings, and itself if its input is mixed."""
    parent, _, name = site.path.rpartition(".")
    children = dict(backbone.get_submodule(parent).named_children())
    start = list(children).index(name) + (site.side == "output") if name in children else len(children)
    return list(children.values())[start:]


def _check_reached(site: Site, count: int, verb: str) -> None:
    if count == 0:
        raise MuxwrapError(f"the {site} was never reached, so nothing was {verb}; name a module that every call runs")
    if count > 1:
        raise MuxwrapError(f"the {site} was reached {count} times in one call; name a module that runs once")


def takes_mask(module: nn.Module) -> bool:
    """Whether a module's forward names an ``attention_mask`` (or ``pixel_attention_mask``, ...)."""
    return any(name.endswith(MASK) for name, _ in _row_arguments(module))


def _row_arguments(module: nn.Module) -> list[tuple[str, int]]:
    """Return what a module's forward is told about every row beside its tokens, and the place of the argument.

    Masks are those of a decoder and Longformer's global one, too.
    """
    names = enumerate(inspect.signature(module.forward).parameters)
    return [(name, at) for at, name in names if name.endswith(MASK) or name in _ROW_FACTS]


_ROW_FACTS = ("position_ids", "token_type_ids", "bbox")


def _full_mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a mask of ones for the first tensor of the call, ``[rows, length]``."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim >= 2:
            return torch.ones(value.shape[:2], dtype=torch.long, device=value.device)
    return None
