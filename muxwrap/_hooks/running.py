"""Which call is running: what a hook of a multiplexed model asks before it does anything.

A hook is a ``functools.partial`` of :func:`in_call`, and holds a :class:`~muxwrap._hooks.call.Key` instead of the model. It
looks for the running call with that key and does nothing where there is none: outside of a call of the wrapped model the
backbone is the bare model. (A closure over the model would keep writing to the original after a deepcopy.)
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from muxwrap._hooks.call import Call, Key
from muxwrap.errors import MuxwrapError

_local = threading.local()


@contextmanager
def running(call: Call) -> Iterator[None]:
    """Let the hooks of a call act inside a block, in this thread."""
    outer = getattr(_local, "calls", ())
    if not torch.compiler.is_compiling():
        for seen in getattr(_local, "watches", ()):
            seen.add(call.key)
    _local.calls = (*outer, call)
    try:
        yield
    finally:
        _local.calls = outer


def begin_watch() -> None:
    """Note the keys of the calls that begin in this thread from now on."""
    _local.watches = (*getattr(_local, "watches", ()), set())


def end_watch() -> set[Key]:
    """Return the keys of the calls that began since the watch that was begun last, which ends here."""
    *outer, seen = _local.watches
    _local.watches = tuple(outer)
    return seen


def order_of(key: Key) -> Tensor | None:
    """Return the order in which the running call of this key deals its rows; None where it is the batch's own.

    Asked after mixing.
    """
    return next((call.order for call in reversed(getattr(_local, "calls", ())) if call.key is key), None)


def in_call(key: Key, do: Callable[..., Any], *arguments: Any) -> Any:
    """Be a hook: act in the running call of this key in this thread, if there is one.

    Raises:
        MuxwrapError: backward runs a part of the call again, where the mixtures are not known.
    """
    for call in reversed(getattr(_local, "calls", ())):
        if call.key is key:
            if call.with_graph and not torch.is_grad_enabled():
                key.without_graph = True
            return do(call, *arguments)
    if key.without_graph and torch._C._current_graph_task_id() != -1:
        raise MuxwrapError(
            "gradient checkpointing with use_reentrant=True runs a site again in backward, outside of the call in which its "
            "mixtures were made, and would give gradients of the bare model; checkpoint the whole wrapped model, or segments "
            "of the trunk between the sites"
        )
    if key.fits_layers and torch._C._current_graph_task_id() != -1:
        raise MuxwrapError(
            "gradient checkpointing runs a layer again in backward, outside of the call in which it got a mask that keeps the "
            "instances apart, and would give gradients of another model; checkpoint the whole wrapped model, not its layers"
        )
    return None


def owns_hooks(owner: Any) -> None:
    """Note who puts on the hooks of ``owner.key``; where there is nobody any more, they never act."""
    owner.key.owner = weakref.ref(owner)


def is_hooked(module: nn.Module) -> bool:
    """Whether a module carries a hook of a multiplexed model that there still is.

    A backbone that is copied or loaded alone carries hooks of nobody, and so does one whose wrapper is gone.
    """
    return any(_is_ours(hook) and _is_owned(hook) for hook in hooks_of(module))


def is_hook_of(hook: Any, key: Key) -> bool:
    """Whether a hook belongs to the model that a key names."""
    return _is_ours(hook) and hook.args[0] is key


def is_copy_of(hook: Any, key: Key) -> bool:
    """Whether a hook belongs to the model that a key names, or is a copy of such a hook, in a copied layer."""
    return _is_ours(hook) and hook.args[0].origin == key.origin


def is_watched(backbone: nn.Module, path: str) -> bool:
    """Whether anybody else has a hook on a module, on one inside it, on one around it, or on all modules."""
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return True
    names = path.split(".") if path else []
    around = [backbone.get_submodule(".".join(names[:depth])) for depth in range(len(names))]
    inside = backbone.get_submodule(path).modules()
    return any(not _is_ours(hook) for module in (*around, *inside) for hook in hooks_of(module))


def hooks_of(module: nn.Module) -> list[Any]:
    """Return the forward hooks and forward pre-hooks of a module."""
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def remove_hooks(root: nn.Module, *, of_nobody: bool = False) -> None:
    """Take the hooks of every multiplexed model off a copy of a backbone, to which they do not belong.

    With ``of_nobody`` take off those alone whose model is gone.
    """
    for module in root.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for each in [
                each for each, hook in hooks.items() if _is_ours(hook) and not (of_nobody and _is_owned(hook))
            ]:
                del hooks[each]
                module._forward_pre_hooks_with_kwargs.pop(each, None)


def _is_owned(hook: Any) -> bool:
    owner = hook.args[0].owner
    return owner is not None and owner() is not None


def _is_ours(hook: Any) -> bool:
    return getattr(hook, "func", None) is in_call
