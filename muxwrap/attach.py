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
from muxwrap.diagnosis import FAILURES, explained
from muxwrap.embeddings import EMBEDS, embedded
from muxwrap.errors import MuxwrapError
from muxwrap.grouping import group, ungroup
from muxwrap.layout import Site, Sites, features_back, features_last, for_strategy, from_strategy
from muxwrap.pieces import Pieces, cut
from muxwrap.row_facts import MASK, RowFacts, layers_after
from muxwrap.strategies.base import Strategy
from muxwrap.tensors import first_tensor, map_first_tensor, replace_object
from muxwrap.widening import Widening, check_used, stem_at, widenings

_local = threading.local()


class _Call:
    """The facts of one forward call."""

    def __init__(self, owner: Attached) -> None:
        self.owner = owner
        self.rows: int | None = None  # of the batch, known once something was mixed
        self.unmarked: int | None = None  # rows of the batch where its ids were marked, which fills the last group
        self.facts = RowFacts(owner.n, owner.demuxer.prefix_length)
        self.pieces: dict[int, Pieces] = {}  # of stems that run piece by piece
        self.mixed = [0] * len(owner.sites.mux)
        self.separated = [0] * len(owner.sites.demux)
        self.wide: dict[int, Tensor] = {}  # mixtures with channels that the stem's own convolution has no weights for


class Attached(nn.Module):
    """A backbone with mixing and separating attached at its sites.

    Outside of a call of this module the hooks do nothing: ``self.backbone(x)`` is the bare model.

    Args:
        backbone: any module; it is not edited.
        n: instances in a mixture.
        sites: where to mix and to separate, checked to exist by whoever found them.
        strategy: mixes at every mux site. If its mixtures have other channels than the backbone there, the stem is
            widened, see :class:`~muxwrap.widening.Widening`.
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
        self.widenings = widenings(backbone, sites, strategy)
        self._check_settings()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.attach()

    @property
    def demuxer(self) -> Demuxer:
        """The demuxer (of the first head, where a model has several)."""
        return self.demuxers[0]  # type: ignore[return-value]

    def _check_settings(self) -> None:
        """Refuse what the published text models do, where it cannot be done."""
        for site in self.sites.mux:
            module = self.backbone.get_submodule(site.path)
            if site.twice and (site.side == "input" or EMBEDS not in inspect.signature(module.forward).parameters):
                raise MuxwrapError(
                    f"the {site} is the output of no module that takes {EMBEDS}, and cannot be run twice"
                )
            if self.demuxer.marks and site.side == "input":
                raise MuxwrapError(
                    f"{self.demuxer.name} marks token ids, and nothing is embedded between them and the {site}"
                )
        if self.demuxer.marks and self.demuxer.prefix_length and self.sites.masked and self.sites.mask != "ignored":
            raise MuxwrapError(
                f"{self.demuxer.name}(prefix_ids=...) makes instances longer than their masks; it goes with sites whose mask "
                "is 'ignored'"
            )

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
            self._before(self.backbone, self._note)
        elif self.sites.mask == "ignored":
            self._before(self.backbone, self._drop)
        elif self.sites.mask == "size":
            self._before(self.backbone, self._hold_back)
        elif self.sites.masked:
            self._before(self.backbone.get_submodule(self.sites.mask_at), self._merge)
        for k, site in enumerate(self.sites.mux):
            module = self.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, partial(self._mix_input, k))
                stem = stem_at(self.backbone, site, self.strategy.dim) if self.widenings else None
                if stem is not None:
                    self._handles.append(stem.register_forward_hook(partial(self._widen, k)))
            else:
                self._before(module, self._restore)
                if self.demuxer.marks:
                    self._before(module, self._mark)
                self._before(module, partial(self._cut, k))
                self._handles.append(module.register_forward_hook(partial(self._mix_output, k)))
            if self.sites.mask in ("inside", "both"):
                for layer in layers_after(self.backbone, site):
                    self._before(layer, self._merge_handed)
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
        except FAILURES as error:
            problem = explained(self.backbone, self.demuxer, args, kwargs)
            if problem is None:
                raise
            raise MuxwrapError(problem) from error
        finally:
            _local.calls = outer
        if 0 in (*call.mixed, call.separated[0]):
            self._check_in_place()
        for site, count in zip(self.sites.mux, call.mixed, strict=True):
            _check_reached(site, count, "mixed")
        check_used(call.wide, self.sites)
        _check_reached(self.sites.demux[0], call.separated[0], "separated")
        return output

    def _call(self) -> _Call | None:
        """Return the running call of this module in this thread, if there is one."""
        for call in reversed(getattr(_local, "calls", ())):
            if call.owner is self:
                return call
        return None

    # -- mixing -------------------------------------------------------------------------------------------------------

    def _cut(self, k: int, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Give the stem its first rows only, where it can run piece by piece; the others follow in ``_mix_output``."""
        call = self._call()
        if call is None or self.check_finite:
            return None
        pieces = cut(module, args, kwargs, self.n, self.sites.mux[k].dim, self.strategy.additive)
        if pieces is None:
            return None
        call.pieces[k] = pieces
        return pieces.call(next(iter(pieces)))

    def _mark(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        if call is None:
            return None
        ids = first_tensor((args, kwargs))
        if ids is None or ids.is_floating_point():
            raise MuxwrapError(f"{self.demuxer.name} marks the instances by token ids: call the model with input_ids")
        call.unmarked = ids.shape[0]
        return replace_object((args, kwargs), ids, self.demuxer.mark(group(ids, self.n)).flatten(0, 1))

    def _mix_output(self, k: int, module: nn.Module, _args: Any, output: Any) -> Any:
        call = self._call()
        if call is None:
            return None
        mixed = self._mixed_output(call, k, module, output)
        return module.forward(**{EMBEDS: mixed}) if self.sites.mux[k].twice else mixed

    def _mixed_output(self, call: _Call, k: int, module: nn.Module, output: Any) -> Any:
        pieces = call.pieces.pop(k, None)
        if pieces is None:
            return map_first_tensor(output, partial(self._mix, call, k))
        if isinstance(output, Tensor):
            return self._mix_pieces(call, k, module, pieces, output)
        output = module.forward(*pieces.args, **pieces.kwargs)
        return map_first_tensor(output, partial(self._mix, call, k))

    def _mix_pieces(self, call: _Call, k: int, module: nn.Module, pieces: Pieces, x: Tensor) -> Tensor:
        mask = self._own_mask(call, k)
        mixtures: list[Tensor] = []
        for rows in pieces:
            if rows.start:
                args, kwargs = pieces.call(rows)
                x = module.forward(*args, **kwargs)
            together = (-1, min(len(rows), self.n))
            said = None if mask is None else pieces.take(mask, rows).unflatten(0, together)
            part = self._mixture(call, k, x.unflatten(0, together), said, rows.start % self.n)
            if rows.start % self.n:
                mixtures[-1] = mixtures[-1] + part
            else:
                mixtures.append(part)
        call.rows = call.unmarked or pieces.rows
        call.mixed[k] += 1
        return self.demuxer.extend(torch.cat(mixtures))

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
        call.rows = call.unmarked or x.shape[0]
        call.mixed[k] += 1
        mask = self._own_mask(call, k)
        mask = mask if mask is None else group(mask, self.n)
        return self.demuxer.extend(self._mixture(call, k, group(x, self.n), mask))

    def _own_mask(self, call: _Call, k: int) -> Tensor | None:
        """Return the rows' own mask where they are embedded by site ``k``."""
        if self.sites.mask == "ignored" and not self.strategy.reads_mask:
            return None
        mask = call.facts.own.get(MASK if k == 0 else "decoder_" + MASK)
        return mask if mask is None or call.unmarked is None else group(mask, self.n).flatten(0, 1)

    def _mixture(self, call: _Call, k: int, grouped: Tensor, mask: Tensor | None, start: int = 0) -> Tensor:
        """Mix ``[g, n, ...]`` into ``[g, ...]``, or ``[g, k, ...]`` into what instances ``start``, ... add to it."""
        site = self.sites.mux[k]
        said: dict[str, Tensor] = {}
        if mask is not None and grouped.ndim == 4 and mask.shape == grouped.shape[:3]:
            # What stands at an instance's padding is no part of it: it would only disturb the others.
            if self.strategy.reads_mask:
                said["mask"] = mask
            else:
                grouped = grouped * mask.unsqueeze(-1).to(grouped.dtype)
        laid = for_strategy(grouped, site, self.strategy.sees)
        mixture = self.strategy(laid, **said) if laid.shape[1] == self.n else self.strategy.part(laid, start)
        if self.widenings:
            mixture = self._narrow(call, k, mixture)
        return from_strategy(mixture, (grouped.shape[0], *grouped.shape[2:]), site, self.strategy.sees)

    def _narrow(self, call: _Call, k: int, mixture: Tensor) -> Tensor:
        """Return as many channels as the stem reads; what it has no weights for is added behind it, or here."""
        widening: Widening = self.widenings[k]  # type: ignore[assignment]
        narrow = widening.reduce(mixture)
        if not widening.in_stem:
            return narrow + widening(mixture)
        call.wide[k] = mixture
        return narrow

    def _widen(self, k: int, _module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        call = self._call()
        return None if call is None or k not in call.wide else output + self.widenings[k](call.wide.pop(k))

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
            self._check_in_place()
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

    def _check_in_place(self) -> None:
        """Refuse a backbone in which a module with hooks was replaced, as conversions of batch norms do.

        Raises:
            MuxwrapError: one was.
        """
        hooked = {handle.id for handle in self._handles}
        for site in (*self.sites.mux, *self.sites.demux):
            module = self.backbone.get_submodule(site.path)
            if hooked.isdisjoint([*module._forward_hooks, *module._forward_pre_hooks]):
                raise MuxwrapError(
                    f"the module at the {site} was replaced after wrapping (by a {type(module).__name__}), and the new one "
                    "does not mix or separate; model.detach() and then model.attach() puts that right"
                )

    # -- masks and the like -------------------------------------------------------------------------------------------

    def _merge(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None else call.facts.merge(module, args, kwargs, self.sites.mask == "always")

    def _drop(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None else call.facts.drop(module, args, kwargs)

    def _note(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        call = self._call()
        if call is not None:
            call.facts.note(module, args, kwargs)

    def _hold_back(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None else call.facts.hold_back(args, kwargs)

    def _restore(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None else call.facts.restore(args, kwargs)

    def _merge_handed(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = self._call()
        return None if call is None or call.rows is None else call.facts.merge_handed(call.rows, args, kwargs)


def _check_reached(site: Site, count: int, verb: str) -> None:
    if count == 0:
        raise MuxwrapError(f"the {site} was never reached, so nothing was {verb}; name a module that every call runs")
    if count > 1:
        raise MuxwrapError(f"the {site} was reached {count} times in one call; name a module that runs once")
