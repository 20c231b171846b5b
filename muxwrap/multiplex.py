"""A model whose trunk runs once for every n rows, and what training scripts ask of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muxwrap import checkpoint, copies
from muxwrap._hooks.adapters import inside, prefix_of
from muxwrap._hooks.attachment import Attachment
from muxwrap._hooks.components import Components
from muxwrap._util.writer import Writer, check_options
from muxwrap.building import build, check_backbone
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.fixed import Fixed
from muxwrap.forwarding import (
    REPLACING_METHODS,
    UNLOADING_METHODS,
    belongs_to,
    blank,
    check_change,
    class_for,
    forwarded,
    shown,
)
from muxwrap.grouped import Grouped
from muxwrap.registry import options_of
from muxwrap.site import Sites, percent
from muxwrap.strategies.base import Strategy

_OWN = {
    "backbone",
    "n",
    "_n",
    "sizes",
    "sites",
    "strategy",
    "demuxers",
    "widenings",
    "check_finite",
    "training",
    "_attachment",
}
"""What :class:`Multiplex` holds itself, also where a backbone has an attribute of the same name."""


_METHODS = {"at", "attach", "detach", "ensemble", "fixed", "grouped", "members"}
"""Short names that a backbone may have, too."""


class Multiplex(nn.Module):
    """A model whose trunk runs once for every n rows of a batch (DataMUX, Murahari et al., NeurIPS 2022).

    ``Multiplex(backbone, n, ...)`` is :func:`muxwrap.wrap`, which documents the arguments and the errors.

    Call it as the backbone is called, with any number of rows: as many come back, in the same order, in the backbone's
    own output type. Rows ``j·n .. j·n + n - 1`` share mixture j, and an incomplete last group is filled with rows of the
    batch. With ``labels`` the backbone computes its own loss over exactly the batch's rows. What a Hugging Face output
    holds beyond the answers (``hidden_states``, ``attentions``) belongs to the mixtures.

    The backbone is attached to, not edited: ``model.backbone(x)`` stays the bare model, and :func:`unwrap` takes every
    hook off. Make the optimizer after wrapping: a wrapped model has parameters of its own.

    Attributes:
        backbone: the bare model.
        n: rows per mixture, one of ``sizes``; set it to change it for all calls that follow.
        sizes: how many rows a mixture may hold; the strategy has as many indices as the largest.
        sites: where instances are mixed and separated.
        strategy: φ.
        demuxers: one per demux site.
        check_finite: whether rows with NaN or infinity are refused.
    """

    backbone: nn.Module
    strategy: Strategy
    demuxers: nn.ModuleList
    widenings: nn.ModuleList

    def __new__(cls, backbone: nn.Module, *_: Any, **__: Any) -> Multiplex:
        """Make an instance of the subclass that has the forward signature of the backbone's class."""
        check_backbone(backbone)
        return object.__new__(class_for(Multiplex, shown(backbone)))

    def __init__(
        self,
        backbone: nn.Module,
        n: int | Sequence[int],
        strategy: StrategyChoice = None,
        demux: DemuxChoice = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.sizes = copies.sizes_of(n)
        self._hold(build(backbone, self.sizes[-1], strategy, demux, **options))
        self._n = self.sizes[-1]

    def _hold(self, made: Components) -> None:
        """Take the components and attach them. The backbone comes last: its head's parameters are the model's last."""
        self.sites: Sites = made.sites
        self.strategy = made.strategy
        self.demuxers = made.demuxers
        self.widenings = made.widenings
        self.check_finite = made.check_finite
        self.training = made.backbone.training
        self.backbone = made.backbone
        self._attachment = Attachment()
        self.attach()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures.

        Raises:
            MuxwrapError: the arguments cannot be mixed, or the call did not pass every site once.
        """
        return self.call_at(self.n, args, kwargs)

    def call_at(self, n: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the model with ``n`` rows per mixture.

        Each takes ``sizes[-1] / n`` indices, and gets their mean answer. Where a mixture has tokens of its own (``pool``), n of
        them are pooled instead.
        """
        indices = n if self.strategy.places_tokens else self.sizes[-1]
        return copies.mean(self._multiplexed(indices), indices // n, args, kwargs, f"model(...) at n={n}")

    def _multiplexed(self, indices: int) -> Callable[..., Any]:
        """Return the call of the model with ``indices`` rows per mixture, of which each takes one."""
        made = replace(self._components(), n=indices)
        return lambda *args, **kwargs: self._attachment.call(made, args, kwargs)

    def _as_ensemble(self, call: str) -> Callable[..., Any]:
        if self.strategy.places_tokens:
            raise MuxwrapError(
                f"{call}: {self.strategy.name} gives a row the same answer at every index; take a strategy that mixes features "
                "or images, such as 'slots'"
            )
        return self._multiplexed(self.sizes[-1])

    # -- rows per mixture ---------------------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Rows per mixture."""
        return self._n

    @n.setter
    def n(self, n: int) -> None:
        self.check_size(n, f"model.n = {n!r}")
        self._n = n

    @contextmanager
    def at(self, n: int) -> Iterator[None]:
        """Put ``n`` rows into a mixture inside a block, in all threads; :meth:`fixed` gives a thread a view of its own.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``.
        """
        before, self.n = self.n, n
        try:
            yield
        finally:
            self.n = before

    def fixed(self, n: int) -> Fixed:
        """Return the view of this model that always puts ``n`` rows into a mixture: for threads, for export.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``.
        """
        return Fixed(self, n)

    def check_size(self, n: int, call: str) -> None:
        """Refuse a number of rows per mixture that the model was not wrapped for.

        Raises:
            MuxwrapError: ``n`` is none of ``sizes``; the message repeats ``call``.
        """
        if n not in self.sizes:
            raise MuxwrapError(
                f"{call}: the model was wrapped for n={self.sizes[-1] if len(self.sizes) == 1 else self.sizes}; wrap with all "
                f"sizes that are to be used, such as wrap(..., n=(1, 2, {2 * self.sizes[-1]}))"
            )

    def grouped(self) -> Grouped:
        """Return the view of this model that takes and gives ``[groups, n, ...]``: for export with free groups."""
        return Grouped(self)

    def members(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with every row at all n indices of a mixture, and return all n answers (MIMO, 2010.06610).

        Args:
            args: the call's, as for the backbone: B rows, which make B mixtures.
            kwargs: likewise.

        Returns:
            The model's own output type, ``[n, B, ...]``: the estimators first, as metrics of ensembles expect them.

        Raises:
            MuxwrapError: as the call of the model.
        """
        return copies.members(self._as_ensemble("model.members(...)"), self.sizes[-1], args, kwargs)

    def ensemble(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with every row at all n indices of a mixture, and return the mean answer (MIMO, 2010.06610).

        B rows cost B mixtures, as in the bare model. The mean is that of the answers, for a classifier that of the logits;
        ``model.members(x).softmax(-1).mean(0)`` is that of the probabilities.

        Args:
            args: the call's, as for the backbone.
            kwargs: likewise.

        Returns:
            The model's own output type, ``[B, ...]``.

        Raises:
            MuxwrapError: as the call of the model; an answer is not of a floating dtype.
        """
        return copies.mean(self._as_ensemble(call := "model.ensemble(...)"), self.sizes[-1], args, kwargs, call)

    def _components(self) -> Components:
        """Return what a call works with; read anew for every call, since any of it may be replaced."""
        return Components(
            self.backbone, self.sizes[-1], self.sites, self.strategy, self.demuxers, self.widenings, self.check_finite
        )

    # -- hooks on and off ---------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the backbone."""
        return bool(self._attachment.handles)

    def attach(self) -> None:
        """Put the hooks on the backbone's modules as they are now, if they are not on."""
        self._attachment.attach(self._components())

    def detach(self) -> nn.Module:
        """Take every hook off and return the backbone, which keeps nothing of the attachment."""
        self._attachment.detach(self.backbone)
        return self.backbone

    # -- what training scripts ask of a model -------------------------------------------------------------------------

    @property
    def demuxer(self) -> Demuxer:
        """The demuxer (of the first head, where a model has several)."""
        return self.demuxers[0]  # type: ignore[return-value]

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        is_main_process: bool = True,
        save_function: Callable[..., Any] | None = None,
        safe_serialization: bool | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **unsupported: Any,
    ) -> None:
        """Write the wrapped model into a folder; :func:`load` reads it back.

        ``muxwrap.json`` says how it was wrapped, and ``muxwrap.safetensors`` holds what was added. ``model.safetensors`` is
        the backbone alone, under its own names, and with the ``config.json`` of a Transformers model
        ``from_pretrained(folder)`` makes the bare model of it. A backbone whose names are not those of its config (PEFT's
        adapters, another head) is written as ``backbone.safetensors`` without a config, and ``from_pretrained`` fails.

        Args:
            save_directory: the folder; it is made if it is not there.
            state_dict: tensors to save instead of the model's own, under the wrapped model's names.
            is_main_process: other processes write nothing.
            save_function: called as ``save_function(tensors, path)`` in place of ``torch.save``; it writes
                ``pytorch_model.bin`` and ``muxwrap.bin`` instead of the files above.
            safe_serialization: False writes these pickles, too, which :func:`load` reads with ``weights_only=True``.
            max_shard_size: bytes, or a string such as ``"5GB"``. Nothing is cut; tensors that need more are refused.
            push_to_hub: refused.
            unsupported: refused by name.

        Raises:
            MuxwrapError: an argument cannot be honoured, the tensors are not the model's, or the strategy or the demuxer has
                no registered name. Nothing is written then.
        """
        if push_to_hub:
            unsupported = {"push_to_hub": push_to_hub, **unsupported}
        check_options(unsupported)
        writer = Writer(save_function, safe_serialization, max_shard_size)
        if is_main_process:
            checkpoint.save(self, self._components(), save_directory, state_dict, writer)

    def _attached_anew(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method that may replace modules with hooks, and put the hooks on the new ones."""
        self.detach()
        try:
            return method(*args, **kwargs)
        finally:
            self.attach()

    def _unloaded(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Multiplex:
        """Call a method that takes the backbone out of PEFT's shell, and return what is left, wrapped as before."""
        prefix = prefix_of(self.backbone)
        self._attached_anew(method, *args, **kwargs)
        made = replace(
            self._components(),
            backbone=inside(self.detach()),
            sites=self.sites.renamed(lambda path: path.removeprefix(prefix)),
        )
        model: Multiplex = blank(Multiplex, shown(made.backbone))
        nn.Module.__init__(model)
        model.sizes, model._n = self.sizes, self._n
        model._hold(made)
        return model

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay (timm): the backbone's own, and keys of one vector per index."""
        own = getattr(self.backbone, "no_weight_decay", set)
        shape = (self.strategy.n, self.strategy.dim)
        keys = {f"strategy.{name}" for name, p in self.strategy.named_parameters() if p.shape == shape}
        return {f"backbone.{name}" for name in own()} | keys

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return how many parameters train, and how many there are."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)

    def _print_trainable_parameters(self) -> None:
        """Print what PEFT's method of the name prints, with the added parameters counted."""
        trained, total = self.get_nb_trainable_parameters()
        print(f"trainable params: {trained:,} || all params: {total:,} || trainable%: {100 * trained / total:.4f}")

    def added_parameters(self) -> int:
        """Return how many numbers φ and the demuxers hold besides the backbone, trained or fixed."""
        added = [p for module in self._components().added for p in module.parameters()]
        return sum(value.numel() for value in (*added, *self.strategy.buffers()))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the tensors by name; where a parameter has several names, the later ones get copies of it.

        Files of safetensors take no memory twice, and the Trainer writes the state dict as it is. ``keep_vars=True`` gives the
        parameters themselves.
        """
        state = super().state_dict(*args, **kwargs)
        if kwargs.get("keep_vars", False):
            return state
        seen: set[int] = set()
        for name, parameter in self.named_parameters(remove_duplicate=False):
            key = kwargs.get("prefix", "") + name
            if id(parameter) in seen and key in state:
                state[key] = state[key].clone()
            seen.add(id(parameter))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors by the wrapped model's names.

        Raises:
            MuxwrapError: none of the names is this model's; ``strict=False`` would load nothing without a word.
        """
        if not strict and state_dict and not super().state_dict().keys() & state_dict.keys():
            name = next(iter(state_dict))
            raise MuxwrapError(
                f"load_state_dict(strict=False): none of the names ({name}, ...) is of the wrapped model; the backbone's own "
                "go into model.backbone, and muxwrap.load reads what save_pretrained wrote"
            )
        return super().load_state_dict(state_dict, strict, assign)

    # -- what Python and torch ask of an object -----------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "backbone" or name.startswith("__"):
                raise
        if name in REPLACING_METHODS:
            return partial(self._attached_anew, getattr(self.backbone, name))
        if name in UNLOADING_METHODS:
            return partial(self._unloaded, getattr(self.backbone, name))
        if name == "print_trainable_parameters" and hasattr(self.backbone, name):
            return self._print_trainable_parameters
        return forwarded(self.backbone, name)

    def __setattr__(self, name: str, value: Any) -> None:
        declared = getattr(type(self), name, None)
        if isinstance(declared, property) and declared.fset is None:
            raise MuxwrapError(f"model.{name} = ... cannot be set; it is read from what the wrapped model holds")
        if name in _METHODS and belongs_to(self.backbone, name):
            raise MuxwrapError(f"model.{name} is a method of the wrapper; the backbone's own is model.backbone.{name}")
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"model.{name} = {type(value).__name__}(...)", value)
            setattr(self.backbone, name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"del model.{name}")
            delattr(self.backbone, name)
        else:
            super().__delattr__(name)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer, with the backbone if it has the attribute."""
        register = self.backbone.register_buffer if self._is_of_backbone(name) else super().register_buffer
        register(name, tensor, persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter, with the backbone if it has the attribute."""
        register = self.backbone.register_parameter if self._is_of_backbone(name) else super().register_parameter
        register(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a child module, to the backbone if it has the attribute."""
        if self._is_of_backbone(name):
            check_change(self.backbone, name, f"model.add_module({name!r}, ...)", module)
            self.backbone.add_module(name, module)
        else:
            super().add_module(name, module)

    def _is_of_backbone(self, name: str) -> bool:
        """Whether reading an attribute asks the backbone, and it has it."""
        held = self.__dict__
        own = name in held or any(name in held[kind] for kind in ("_parameters", "_buffers", "_modules"))
        return not (own or name in _OWN or hasattr(type(self), name)) and belongs_to(self.backbone, name)

    def __repr__(self) -> str:
        lines = [
            f"Multiplex({type(self.backbone).__name__}, n={self.n}{_of_sizes(self.sizes)})",
            *(f"  mix       {site}: {_describe(self.strategy)}" for site in self.sites.mux),
            *(f"  separate  {s}: {_describe(d)}" for s, d in zip(self.sites.demux, self.demuxers, strict=True)),
            *(
                [f"  trunk     {percent(self.sites.share)} of the operations run once per mixture"]
                if self.sites.share is not None
                else []
            ),
            f"  added     {self.added_parameters():,} parameters to the backbone's "
            f"{sum(p.numel() for p in self.backbone.parameters()):,}",
        ]
        return "\n".join(lines)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, so pickle and deepcopy make it again from the backbone's class.
        return blank, (Multiplex, shown(self.backbone)), self.__dict__

    def _replicate_for_data_parallel(self) -> Any:
        raise MuxwrapError(
            "nn.DataParallel copies modules but not what their hooks belong to, so its copies would answer for the first "
            "one; use torch.nn.parallel.DistributedDataParallel"
        )


def check_wrapped(model: object, call: str) -> None:
    """Refuse what is not a wrapped model.

    Args:
        model: the argument of a user.
        call: the function that the user called; the message repeats it.

    Raises:
        MuxwrapError: the model was not made by :func:`muxwrap.wrap`, is unwrapped again, or has fewer rows per mixture than
            indices.
    """
    if not isinstance(model, Multiplex) or not model.attached:
        raise MuxwrapError(f"{call}({type(model).__name__}): not a wrapped model; give what muxwrap.wrap returned")
    if model.n != model.sizes[-1]:
        raise MuxwrapError(
            f"{call}(model): it looks at every index by itself, and at n={model.n} a row takes several; set model.n = "
            f"{model.sizes[-1]} before"
        )


def _of_sizes(sizes: tuple[int, ...]) -> str:
    return "" if len(sizes) == 1 else f" of {sizes}"


def _describe(module: nn.Module) -> str:
    """Return a strategy's or demuxer's name, and the options that are not the constructor's defaults."""
    options = options_of(module)
    defaults = inspect.signature(type(module)).parameters
    changed = ", ".join(f"{key}={value!r}" for key, value in options.items() if value != defaults[key].default)
    return getattr(module, "name", type(module).__name__) + (f"({changed})" if changed else "")
