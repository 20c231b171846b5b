"""Mixing and separating inside a backbone that nobody edits: forward hooks at the sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from muxwrap._hooks import placing, side_inputs, sides
from muxwrap._hooks.answers import AnswerCheck
from muxwrap._hooks.bare_answers import EmbeddingWarning
from muxwrap._hooks.call import Call, Key, new_call
from muxwrap._hooks.components import Components
from muxwrap._hooks.embeddings import taker_of_embeds
from muxwrap._hooks.explain import FAILURES, explained, of_mixtures
from muxwrap._hooks.fitting import fit_arguments, read_padding
from muxwrap._hooks.hooked import FrozenWarning, Hooked
from muxwrap._hooks.mixing import insert_ids, mix_embeds, mix_input, mix_output, start_chunks, widen
from muxwrap._hooks.parts import FEATURES, call_features, call_head
from muxwrap._hooks.running import in_call, is_copy_of, running
from muxwrap._hooks.separating import separate_input, separate_output
from muxwrap._hooks.trunk import layer_at, layers_between
from muxwrap._hooks.widening import check_used, stem_at
from muxwrap._util.fast_path import in_fast_path, without_fast_path
from muxwrap.demuxers.watch import Watch
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site

_AT_BACKBONE = {
    MaskMode.INSIDE: side_inputs.read,
    MaskMode.IGNORED: side_inputs.drop,
    MaskMode.SIZE: side_inputs.put_stand_in,
}
"""What is done to the side inputs of the whole backbone's call; elsewhere they are merged at ``mask_at``."""


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

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    def attach(self, model: Components) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        if self.handles:
            return
        self._attach_side_inputs(model)
        for path in dict.fromkeys(side.first[0] for side in model.sites.sides if side.first is not None):
            self._before(model.backbone.get_submodule(path), sides.read, path)
        for k, site in enumerate(model.sites.mux):
            self._attach_mixing(model, k, site)
        for path in dict.fromkeys(side.path for side in model.sites.sides):
            self._before(model.backbone.get_submodule(path), sides.merge, path)
        for k, site in enumerate(model.sites.demux):
            module = model.backbone.get_submodule(site.path)
            if site.side == "input":
                self._before(module, separate_input, k)
            else:
                self._after(module, separate_output, k)
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

    def _attach_side_inputs(self, model: Components) -> None:
        mode = MaskMode(model.sites.mask)
        if model.strategy.places_tokens:
            self._before(model.backbone, placing.read_rows)
        elif mode in _AT_BACKBONE:
            self._before(model.backbone, _AT_BACKBONE[mode])
        elif mode is not MaskMode.NONE:
            self._before(model.backbone.get_submodule(model.sites.mask_at), side_inputs.merge)

    def _attach_mixing(self, model: Components, k: int, site: Site) -> None:
        module = model.backbone.get_submodule(site.path)
        if model.strategy.places_tokens:
            self._before(layer_at(model.backbone, site), read_padding)
        if site.side == "input":
            self._before(module, mix_input, k)
            stem = stem_at(model.backbone, site, model.strategy.dim) if len(model.widenings) else None
            if stem is not None:
                self._after(stem, widen, k)
        else:
            self._before(module, side_inputs.restore)
            taker = taker_of_embeds(model.backbone, site.path)
            if model.demuxer.uses_sentinel_ids:
                self._before(module, insert_ids)
            elif taker is not None:
                self._before(taker, mix_embeds, k)
            self._before(module, start_chunks, k)
            self._after(module, mix_output, k)
        if model.strategy.places_tokens:
            self._attach_places(model, site)
        elif model.sites.mask in (MaskMode.INSIDE, MaskMode.BOTH):
            for layer in side_inputs.layers_after(model.backbone, site):
                self._before(layer, side_inputs.merge_unnamed)

    def _attach_places(self, model: Components, site: Site) -> None:
        again, times = dict(getattr(model.strategy, "again", ())), 1
        for at, layer in enumerate(layers_between(model.backbone, site, model.sites.demux[0])):
            if at in again:
                times *= again[at]
                self._before(layer, placing.place_again, times)
            self._before(layer, fit_arguments)

    def _before(self, module: nn.Module, do: Callable[..., Any], *which: object) -> None:
        hook = partial(in_call, self.key, partial(_before_module, do), *which)
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _after(self, module: nn.Module, do: Callable[..., Any], *which: int) -> None:
        self.handles.append(module.register_forward_hook(partial(in_call, self.key, do, *which)))

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
        """Refuse a call that did not pass every site once (heads after the first may be left out)."""
        sites = call.model.sites
        passed = [(site, count, "mixed") for site, count in zip(sites.mux, call.mixed, strict=True)]
        for site, count, done in [*passed, (sites.demux[0], call.separated[0], "separated")]:
            if count == 0:
                raise MuxwrapError(
                    f"the {site} was never reached, so nothing was {done}; name a module that every call runs"
                )
            if count > 1:
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
