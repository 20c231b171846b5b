"""Mixing and separating inside a backbone that nobody edits: forward hooks at the sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from muxwrap._hooks.answers import AnswerCheck
from muxwrap._hooks.bare_answers import EmbeddingWarning
from muxwrap._hooks.call import Call, Key, new_call
from muxwrap._hooks.components import Components
from muxwrap._hooks.explain import FAILURES, explained, of_mixtures
from muxwrap._hooks.hooked import FrozenWarning, Hooked
from muxwrap._hooks.left_out import LeftOut
from muxwrap._hooks.parts import FEATURES, call_features, call_head
from muxwrap._hooks.plan import Planned, hooks_for
from muxwrap._hooks.running import in_call, is_copy_of, owns_hooks, remove_hooks, running
from muxwrap._hooks.widening import check_used
from muxwrap._util.fast_path import in_fast_path, without_fast_path
from muxwrap.demuxers.watch import Watch
from muxwrap.errors import MuxwrapError


class Attachment:
    """The hooks of one multiplexed model. A plain object: the model's module tree does not see it.

    Args:
        check_answers: refuse answers that belong to mixtures; see :class:`~muxwrap._hooks.answers.AnswerCheck`.
    """

    def __init__(self, *, check_answers: bool = True) -> None:
        self.key = Key()
        self.handles: list[RemovableHandle] = []
        self._hooked = Hooked(self.key)
        self._frozen = FrozenWarning()
        self._answers = AnswerCheck() if check_answers else None
        self._embeddings = EmbeddingWarning()
        self._watch = Watch()
        self._left_out = LeftOut()
        owns_hooks(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be a copy, of deepcopy or pickle, which has a key of its own."""
        self.__dict__.update(state)
        owns_hooks(self)

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    def attach(self, model: Components) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        if self.handles:
            return
        remove_hooks(model.backbone, of_nobody=True)
        for hook in list(hooks_for(model)):  # none is on if one has no place
            self._put_on(hook)
        self._hooked.note(model.backbone)

    def detach(self, backbone: nn.Module) -> None:
        """Take every hook off; the backbone keeps nothing of them."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        self._hooked.forget()
        for module in backbone.modules():  # what conversions carried over to new modules, and copies have
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for each in [each for each, hook in hooks.items() if is_copy_of(hook, self.key)]:
                    del hooks[each]
                    module._forward_pre_hooks_with_kwargs.pop(each, None)

    def _put_on(self, hook: Planned) -> None:
        if hook.before:
            do = partial(in_call, self.key, partial(_before_module, hook.do), *hook.which)
            self.handles.append(hook.module.register_forward_pre_hook(do, with_kwargs=True))
        else:
            self.handles.append(hook.module.register_forward_hook(partial(in_call, self.key, hook.do, *hook.which)))

    # -- one call -----------------------------------------------------------------------------------------------------

    def call(self, model: Components, args: Any, kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures.

        Raises:
            MuxwrapError: the arguments cannot be mixed, or the call did not pass every site once.
        """
        self._prepare(model)
        call = new_call(model, self.key)
        try:
            with running(call), self._visible(model):
                output = model.backbone(*args, **kwargs)
            self._check_reached(call)
        except FAILURES as error:
            problem = explained(model.backbone, model.demuxer, args, kwargs) or (
                of_mixtures(call, args, kwargs, error) if self._answers is not None else None
            )
            if problem is None:
                raise
            raise MuxwrapError(problem) from error
        if self._answers is not None:
            self._answers.check(call, args, kwargs, output)
        self._embeddings.look(call, output)
        if model.training:
            self._left_out.look(model)
        if model.training and self._watch.look((model.backbone, *model.added), model.demuxers):
            for state in call.answers:
                if state.requires_grad:
                    state.register_hook(self._watch.warn)
        return output

    def call_part(self, name: str, model: Components, *args: Any, **kwargs: Any) -> Any:
        """Call a method that is a part of the backbone's forward; see :mod:`muxwrap._hooks.parts`.

        Raises:
            MuxwrapError: what it gives would belong to mixtures.
        """
        self._prepare(model)
        part = call_features if name == FEATURES else call_head
        return part(model, self.key, *args, **kwargs)

    def _visible(self, model: Components) -> AbstractContextManager[None]:
        """Let the hooks see what passes where a site is among torch's fused layers."""
        paths = (site.path for site in (*model.sites.mux, *model.sites.demux))
        if torch.compiler.is_compiling() or not any(in_fast_path(model.backbone, path) for path in paths):
            return nullcontext()
        return without_fast_path()

    def _check_reached(self, call: Call) -> None:
        """Refuse a call that did not pass every site as often as it has to (heads after the first may be left out)."""
        sites = call.model.sites
        passed = [(site, count, "mixed") for site, count in zip(sites.mux, call.mixed, strict=True)]
        for site, count, done in [*passed, (sites.demux[0], call.separated[0], "separated")]:
            if count == 0:
                raise MuxwrapError(
                    f"the {site} was never reached, so nothing was {done}; name a module that every call runs"
                )
            if count > 1 and site.times == 1:
                raise MuxwrapError(f"the {site} was reached {count} times in one call; name a module that runs once")
        check_used(call.wide, sites)

    def _prepare(self, model: Components) -> None:
        """Make sure before a call that the hooks are where the model is to be mixed and separated.

        Raises:
            MuxwrapError: the hooks are off, or a hooked module was replaced.
        """
        if torch.compiler.is_compiling():
            self._hooked.check_unchanged(model)
            return
        if not self.handles:
            raise MuxwrapError(
                "the model is detached, so nothing is mixed or separated; model.attach() puts the hooks on again"
            )
        if self._hooked.moved(model):
            self.detach(model.backbone)
            self.attach(model)
        self._frozen.look(model)


def _before_module(do: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``do`` with the keyword arguments of a module, also where a conversion registered the hook without them.

    ``torch.ao.quantization`` carries hooks over to its modules so.
    """
    if isinstance(arguments[-1], dict):
        return do(*arguments)
    changed = do(*arguments, {})
    return changed if changed is None else changed[0]


@contextmanager
def attached(model: Components) -> Iterator[Callable[..., Any]]:
    """Multiplex a backbone for a while: yields what calls it, and takes the hooks off again.

    What comes back is for the caller to judge.
    """
    attachment = Attachment(check_answers=False)
    attachment.attach(model)
    try:
        yield lambda *args, **kwargs: attachment.call(model, args, kwargs)
    finally:
        attachment.detach(model.backbone)
