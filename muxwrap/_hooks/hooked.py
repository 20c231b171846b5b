"""Which modules carry the hooks, and what others have done to them since: adapted, replaced or frozen."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from muxwrap._hooks.adapters import is_adapted, is_adapter
from muxwrap._hooks.call import Key
from muxwrap._hooks.components import Components
from muxwrap._hooks.running import hooks_of, is_hook_of
from muxwrap.errors import MuxwrapError


class Hooked:
    """The modules with hooks, by their paths, as they were when the hooks were put on.

    Args:
        key: of the hooks.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._modules: dict[str, tuple[nn.Module, int]] = {}

    def note(self, backbone: nn.Module) -> None:
        """Note which modules have hooks, and how many."""
        modules = backbone.named_modules(remove_duplicate=False)
        found = {path: (module, self._hooks_on(module)) for path, module in modules}
        self._modules = {path: each for path, each in found.items() if each[1]}

    def forget(self) -> None:
        """Forget all modules: the hooks are off."""
        self._modules = {}

    def moved(self, model: Components) -> bool:
        """Return whether adapters were put around hooked modules since, or taken away.

        Raises:
            MuxwrapError: something else was put in the place of a hooked module: a layer that was fused, converted or
                initialised anew need not be what was there.
        """
        moved = False
        for path, (old, hooks) in self._modules.items():
            try:
                module = model.backbone.get_submodule(path)
            except AttributeError:
                raise MuxwrapError(
                    f"the module at {_place(model, path)} was replaced after wrapping, and there is none of that name any "
                    "more; muxwrap.unwrap the model and wrap it again"
                ) from None
            if self._hooks_on(module) == hooks:
                self._modules[path] = module, hooks  # a conversion may have carried them over
                continue
            if not _is_adapter_of(module, old) and not _is_adapter_of(old, module):
                raise MuxwrapError(
                    f"the module at {_place(model, path)} was replaced after wrapping (by a {type(module).__name__}), and "
                    "the new one does not mix or separate; model.detach() and then model.attach() puts that right where it "
                    "does what the old one did (a fused layer does more: fuse the bare model, then wrap it)"
                )
            moved = True
        return moved

    def check_unchanged(self, model: Components) -> None:
        """Refuse, in traced code that cannot follow, modules that were replaced since the last call."""
        for path, (old, _) in self._modules.items():
            if model.backbone.get_submodule(path) is not old:
                raise MuxwrapError(
                    f"the module at {path!r} was replaced after the last call; call the model once before it is compiled"
                )

    def _hooks_on(self, module: nn.Module) -> int:
        return sum(is_hook_of(hook, self._key) for hook in hooks_of(module))


class FrozenWarning:
    """Warns, once per model, where PEFT froze what muxwrap added."""

    def __init__(self) -> None:
        self._may_be_frozen = True

    def look(self, model: Components) -> None:
        """Warn once where PEFT trains adapters and froze what muxwrap added, which it would not save either."""
        if not (self._may_be_frozen and model.backbone.training and torch.is_grad_enabled()):
            return
        frozen = model.frozen()
        self._may_be_frozen = not frozen
        if frozen and is_adapted(model.backbone):
            warnings.warn(
                f"PEFT froze {', '.join(frozen)}: only the adapters train and are saved. Where multiplexing has not been "
                f"trained yet, give modules_to_save={frozen} to PEFT's config, or wrap what get_peft_model returns",
                stacklevel=6,
            )


def _is_adapter_of(module: nn.Module, layer: nn.Module) -> bool:
    return is_adapter(module) and any(each is layer for each in module.modules())


def _place(model: Components, path: str) -> str:
    """Return how a message calls a hooked module: by its site, if it is one."""
    sites = (site for site in (*model.sites.mux, *model.sites.demux) if site.path == path)
    return next((f"the {site}" for site in sites), repr(path))
