"""Mixing and separating inside a backbone that nobody edits: forward hooks at the sites.

A hook is a ``functools.partial`` of :func:`_in_call`, and holds a :class:`~muxwrap._hooks.call.Key` instead of the model. It
looks for the running call with that key and does nothing where there is none: outside of a call of the wrapped model the
backbone is the bare model. (A closure over the model would keep writing to the original after a deepcopy.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from muxwrap._hooks import side_inputs
from muxwrap._hooks.call import Call, Key, new_call
from muxwrap._hooks.components import Components
from muxwrap._hooks.explain import FAILURES, explained
from muxwrap._hooks.mixing import insert_ids, mix_input, mix_output, start_chunks, widen
from muxwrap._hooks.separating import separate_input, separate_output
from muxwrap._hooks.widening import check_used, stem_at
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site

_local = threading.local()
_AT_BACKBONE = {
    MaskMode.INSIDE: side_inputs.read,
    MaskMode.IGNORED: side_inputs.drop,
    MaskMode.SIZE: side_inputs.put_stand_in,
}
"""What is done to the side inputs of the whole backbone's call; elsewhere they are merged at ``mask_at``."""


class Attachment:
    """The hooks of one multiplexed model. A plain object: the model's module tree does not see it."""

    def __init__(self) -> None:
        self.key = Key()
        self.handles: list[RemovableHandle] = []

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    def attach(self, model: Components) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        if self.handles:
            return
        self._attach_side_inputs(model)
        for k, site in enumerate(model.sites.mux):
            self._attach_mixing(model, k, site)
        for k, site in enumerate(model.sites.demux):
            module = model.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, separate_input, k)
            else:
                self._after(module, separate_output, k)

    def detach(self, backbone: nn.Module) -> None:
        """Take every hook off; the backbone keeps nothing of them."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        for module in backbone.modules():  # what conversions carried over to new modules
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for each in [each for each, hook in hooks.items() if _belongs(hook, self.key)]:
                    del hooks[each]
                    module._forward_pre_hooks_with_kwargs.pop(each, None)

    def _attach_side_inputs(self, model: Components) -> None:
        mode = MaskMode(model.sites.mask)
        if mode in _AT_BACKBONE:
            self._before(model.backbone, _AT_BACKBONE[mode])
        elif mode is not MaskMode.NONE:
            self._before(model.backbone.get_submodule(model.sites.mask_at), side_inputs.merge)

    def _attach_mixing(self, model: Components, k: int, site: Site) -> None:
        module = model.backbone.get_submodule(site.path)
        if site.side == "input":
            self._before(module, mix_input, k)
            stem = stem_at(model.backbone, site, model.strategy.dim) if len(model.widenings) else None
            if stem is not None:
                self._after(stem, widen, k)
        else:
            self._before(module, side_inputs.restore)
            if model.demuxer.uses_sentinel_ids:
                self._before(module, insert_ids)
            self._before(module, start_chunks, k)
            self._after(module, mix_output, k)
        if model.sites.mask in (MaskMode.INSIDE, MaskMode.BOTH):
            for layer in side_inputs.layers_after(model.backbone, site):
                self._before(layer, side_inputs.merge_unnamed)

    def _before(self, module: nn.Module, do: Callable[..., Any], *which: int) -> None:
        hook = partial(_in_call, self.key, partial(_before_module, do), *which)
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _after(self, module: nn.Module, do: Callable[..., Any], *which: int) -> None:
        self.handles.append(module.register_forward_hook(partial(_in_call, self.key, do, *which)))

    # -- one call -----------------------------------------------------------------------------------------------------

    def call(self, model: Components, args: Any, kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures.

        Raises:
            MuxwrapError: the arguments cannot be mixed, or the call did not pass every site once.
        """
        call = new_call(model, self.key)
        outer = getattr(_local, "calls", ())
        _local.calls = (*outer, call)
        try:
            output = model.backbone(*args, **kwargs)
        except FAILURES as error:
            problem = self._replaced(model) or explained(model.backbone, model.demuxer, args, kwargs)
            if problem is None:
                raise
            raise MuxwrapError(problem) from error
        finally:
            _local.calls = outer
        self._check_reached(call)
        return output

    def _check_reached(self, call: Call) -> None:
        """Refuse a call that did not pass every site once (heads after the first may be left out)."""
        sites = call.model.sites
        passed = [(site, count, "mixed") for site, count in zip(sites.mux, call.mixed, strict=True)]
        for site, count, done in [*passed, (sites.demux[0], call.separated[0], "separated")]:
            if count == 0:
                raise MuxwrapError(
                    self._replaced(call.model)
                    or f"the {site} was never reached, so nothing was {done}; name a module that every call runs"
                )
            if count > 1:
                raise MuxwrapError(f"the {site} was reached {count} times in one call; name a module that runs once")
        check_used(call.wide, sites)

    def _replaced(self, model: Components) -> str | None:
        """Describe which module with hooks was replaced, as conversions of batch norms do; None where none was."""
        for site in (*model.sites.mux, *model.sites.demux):
            try:
                module = model.backbone.get_submodule(site.path)
            except AttributeError:
                return (
                    f"the module at the {site} was replaced after wrapping, by one without a module of that name; "
                    "muxwrap.unwrap the model and wrap it again"
                )
            if not any(_belongs(hook, self.key) for hook in _hooks_of(module)):
                return (
                    f"the module at the {site} was replaced after wrapping (by a {type(module).__name__}), and the new one "
                    "does not mix or separate; model.detach() and then model.attach() puts that right"
                )
        return None


def _before_module(do: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``do`` with the keyword arguments of a module, also where a conversion registered the hook without them.

    ``torch.ao.quantization`` carries hooks over to its modules so.
    """
    if isinstance(arguments[-1], dict):
        return do(*arguments)
    changed = do(*arguments, {})
    return changed if changed is None else changed[0]


def _in_call(key: Key, do: Callable[..., Any], *arguments: Any) -> Any:
    """Be a hook: act in the running call of this key in this thread, if there is one."""
    for call in reversed(getattr(_local, "calls", ())):
        if call.key is key:
            return do(call, *arguments)
    return None


def is_hooked(module: nn.Module) -> bool:
    """Whether a module carries a hook of a multiplexed model."""
    return any(getattr(hook, "func", None) is _in_call for hook in _hooks_of(module))


def _hooks_of(module: nn.Module) -> tuple[Callable[..., Any], ...]:
    return (*module._forward_hooks.values(), *module._forward_pre_hooks.values())


def _belongs(hook: Callable[..., Any], key: Key) -> bool:
    return isinstance(hook, partial) and hook.func is _in_call and hook.args[0] is key


@contextmanager
def attached(model: Components) -> Iterator[Callable[..., Any]]:
    """Multiplex a backbone for a while: yields what calls it, and takes the hooks off again."""
    attachment = Attachment()
    attachment.attach(model)
    try:
        yield lambda *args, **kwargs: attachment.call(model, args, kwargs)
    finally:
        attachment.detach(model.backbone)
