"""Mixing and separating inside a backbone that nobody edits: forward hooks at the sites.

The hooks are bound methods of the module that owns them, so that a deepcopy's or an unpickled copy's hooks are its own
(closures would keep writing to the original). What belongs to one call (how many rows, which mask) lies in a
``threading.local`` and never on the module: two threads may be inside one model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from muxwrap._hooks.call import Call
from muxwrap._hooks.explain import FAILURES, explained
from muxwrap._hooks.mixing import cut_stem, mark, mix_input, mix_output, widen
from muxwrap._hooks.parts import Parts
from muxwrap._hooks.separating import separate_input, separate_output
from muxwrap._hooks.side_inputs import RowFacts, layers_after
from muxwrap._hooks.widening import check_used, stem_at
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.strategies.base import Strategy

_local = threading.local()


class Attached(Parts):
    """A backbone with mixing and separating attached at its sites; the arguments are those of :class:`Parts`.

    Outside of a call of this module the hooks do nothing: ``self.backbone(x)`` is the bare model.
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
        super().__init__(backbone, n, sites, strategy, demuxers, check_finite)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.attach()

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the backbone."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        if self.attached:
            return
        if self.sites.mask != "none":
            told = {"inside": RowFacts.note, "ignored": RowFacts.drop, "size": RowFacts.hold_back}
            whole = self.sites.mask in told
            at = self.backbone if whole else self.backbone.get_submodule(self.sites.mask_at)
            self._before(at, told.get(self.sites.mask, RowFacts.merge))
        for k, site in enumerate(self.sites.mux):
            self._attach_mixing(k, site)
        for k, site in enumerate(self.sites.demux):
            module = self.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, separate_input, k)
            else:
                self._after(module, separate_output, k)

    def _attach_mixing(self, k: int, site: Site) -> None:
        module = self.backbone.get_submodule(site.path)
        if site.side == "input":
            self._before(module, mix_input, k)
            stem = stem_at(self.backbone, site, self.strategy.dim) if self.widenings else None
            if stem is not None:
                self._after(stem, widen, k)
        else:
            self._before(module, RowFacts.restore)
            if self.demuxer.uses_sentinel_ids:
                self._before(module, mark)
            self._before(module, cut_stem, k)
            self._after(module, mix_output, k)
        if self.sites.mask in ("inside", "both"):
            for layer in layers_after(self.backbone, site):
                self._before(layer, RowFacts.merge_handed)

    def _before(self, module: nn.Module, do: Callable[..., Any], *which: int) -> None:
        hook = partial(self._in_call, do, *which)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _after(self, module: nn.Module, do: Callable[..., Any], *which: int) -> None:
        self._handles.append(module.register_forward_hook(partial(self._in_call, do, *which)))

    def detach(self) -> nn.Module:
        """Take every hook off and return the backbone, which keeps nothing of the attachment."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return self.backbone

    # -- one call -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures."""
        call = Call(self)
        outer = getattr(_local, "calls", ())
        _local.calls = (*outer, call)
        try:
            output = self.backbone(*args, **kwargs)
        except FAILURES as error:
            problem = explained(self.backbone, self.demuxer, args, kwargs) or self._replaced()
            if problem is None:
                raise
            raise MuxwrapError(problem) from error
        finally:
            _local.calls = outer
        self._check_reached(call)
        return output

    def _in_call(self, do: Callable[..., Any], *what: Any) -> Any:
        """Be a hook: do something to the running call of this module in this thread, if there is one."""
        for call in reversed(getattr(_local, "calls", ())):
            if call.model is self:
                return do(call, *what)
        return None

    def _check_reached(self, call: Call) -> None:
        """Refuse a call that did not pass every site once (heads after the first may be left out).

        Raises:
            MuxwrapError: it did not.
        """
        passed = [(site, count, "mixed") for site, count in zip(self.sites.mux, call.mixed, strict=True)]
        for site, count, done in [*passed, (self.sites.demux[0], call.separated[0], "separated")]:
            if count == 0:
                raise MuxwrapError(
                    self._replaced()
                    or f"the {site} was never reached, so nothing was {done}; name a module that every call runs"
                )
            if count > 1:
                raise MuxwrapError(f"the {site} was reached {count} times in one call; name a module that runs once")
        check_used(call.wide, self.sites)

    def _replaced(self) -> str | None:
        """Say which module with hooks was replaced, as conversions of batch norms do, or None where none was."""
        hooked = {handle.id for handle in self._handles}
        for site in (*self.sites.mux, *self.sites.demux):
            module = self.backbone.get_submodule(site.path)
            if hooked.isdisjoint([*module._forward_hooks, *module._forward_pre_hooks]):
                return (
                    f"the module at the {site} was replaced after wrapping (by a {type(module).__name__}), and the new one "
                    "does not mix or separate; model.detach() and then model.attach() puts that right"
                )
        return None
