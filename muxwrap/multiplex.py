"""A model whose trunk runs once for every n rows, and what training scripts ask of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muxwrap import checkpoint
from muxwrap._hooks.attachment import Attachment
from muxwrap._hooks.components import Components
from muxwrap.building import build, check_backbone, check_shuffle
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.demuxers.base import Demuxer
from muxwrap.demuxers.ranks import sharing
from muxwrap.errors import MuxwrapError
from muxwrap.forwarding import REPLACING_METHODS, belongs_to, blank, check_change, class_for, forwarded
from muxwrap.grouped import Grouped
from muxwrap.registry import options_of
from muxwrap.site import Sites
from muxwrap.strategies.base import Strategy

_OWN = {
    "backbone",
    "n",
    "sites",
    "strategy",
    "demuxers",
    "widenings",
    "check_finite",
    "shuffle",
    "training",
    "_attachment",
}
"""What :class:`Multiplex` holds itself, also where a backbone has an attribute of the same name."""


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
        n: instances per mixture.
        sites: where instances are mixed and separated.
        strategy: φ.
        demuxers: one per demux site.
        check_finite: whether rows with NaN or infinity are refused.
        shuffle: whether rows are dealt to mixtures and indices at random in training.
    """

    backbone: nn.Module
    strategy: Strategy
    demuxers: nn.ModuleList
    widenings: nn.ModuleList

    def __new__(cls, backbone: nn.Module, *_: Any, **__: Any) -> Multiplex:
        """Make an instance of the subclass that has the forward signature of the backbone's class."""
        check_backbone(backbone)
        return object.__new__(class_for(Multiplex, type(backbone)))

    def __init__(
        self,
        backbone: nn.Module,
        n: int,
        strategy: StrategyChoice = None,
        demux: DemuxChoice = None,
        *,
        shuffle: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_shuffle(shuffle)
        made = build(backbone, n, strategy, demux, **options)
        self.backbone = made.backbone
        self.n = made.n
        self.sites: Sites = made.sites
        self.strategy = made.strategy
        self.demuxers = made.demuxers
        self.widenings = made.widenings
        self.check_finite = made.check_finite
        self.shuffle = shuffle
        self.training = backbone.training
        self._attachment = Attachment()
        self.attach()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone with the batch's own rows; its trunk runs on ``ceil(rows / n)`` mixtures.

        Raises:
            MuxwrapError: the arguments cannot be mixed, or the call did not pass every site once.
        """
        with sharing(self):
            return self._attachment.call(self._components(), args, kwargs)

    def grouped(self) -> Grouped:
        """Return the view of this model that takes and gives ``[groups, n, ...]``: for export with free groups."""
        return Grouped(self)

    def _components(self) -> Components:
        """Return what a call works with; read anew for every call, since any of it may be replaced."""
        return Components(
            self.backbone,
            self.n,
            self.sites,
            self.strategy,
            self.demuxers,
            self.widenings,
            self.check_finite,
            self.shuffle,
            self.training,
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
        """Write ``muxwrap.json`` and ``model.safetensors`` (and the backbone's config, if it has one) into a folder.

        :func:`load` reads them back.

        Args:
            save_directory: the folder; it is made if it is not there.
            state_dict: tensors to save instead of the model's own, under the wrapped model's names.
            is_main_process: other processes write nothing.
            save_function: called as ``save_function(tensors, path)`` in place of ``torch.save``; it writes
                ``pytorch_model.bin`` instead of ``model.safetensors``.
            safe_serialization: False writes ``pytorch_model.bin``, which :func:`load` reads with ``weights_only=True``.
            max_shard_size: bytes, or a string such as ``"5GB"``. One file is written; tensors that need more are refused.
            push_to_hub: refused.
            unsupported: refused by name.

        Raises:
            MuxwrapError: an argument cannot be honoured, the tensors are not the model's, or the strategy or the demuxer has
                no registered name. Nothing is written then.
        """
        if push_to_hub:
            unsupported = {"push_to_hub": push_to_hub, **unsupported}
        checkpoint.check_options(unsupported)
        writer = checkpoint.Writer(save_function, safe_serialization, max_shard_size)
        if is_main_process:
            checkpoint.save(self, self._components(), save_directory, state_dict, writer)

    def _attached_anew(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method that may replace modules with hooks, and put the hooks on the new ones."""
        self.detach()
        try:
            return method(*args, **kwargs)
        finally:
            self.attach()

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay (timm): the backbone's own, and keys of one vector per index."""
        own = getattr(self.backbone, "no_weight_decay", set)
        keys = {
            f"strategy.{name}" for name, p in self.strategy.named_parameters() if p.shape == (self.n, self.strategy.dim)
        }
        return {f"backbone.{name}" for name in own()} | keys

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return how many parameters train, and how many there are."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)

    def added_parameters(self) -> int:
        """Return how many numbers φ and the demuxers hold besides the backbone, trained or fixed."""
        added = [p for module in self._components().added for p in module.parameters()]
        return sum(value.numel() for value in (*added, *self.strategy.buffers()))

    # -- what Python and torch ask of an object -----------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "backbone" or name.startswith("__"):
                raise
        if name in REPLACING_METHODS:
            return partial(self._attached_anew, getattr(self.backbone, name))
        return forwarded(self.backbone, name)

    def __setattr__(self, name: str, value: Any) -> None:
        declared = getattr(type(self), name, None)
        if isinstance(declared, property) and declared.fset is None:
            raise MuxwrapError(f"model.{name} = ... cannot be set; it is read from what the wrapped model holds")
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
            f"Multiplex({type(self.backbone).__name__}, n={self.n})",
            *(f"  mix       {site}: {_describe(self.strategy)}" for site in self.sites.mux),
            *(f"  separate  {s}: {_describe(d)}" for s, d in zip(self.sites.demux, self.demuxers, strict=True)),
            f"  added     {self.added_parameters():,} parameters to the backbone's "
            f"{sum(p.numel() for p in self.backbone.parameters()):,}",
        ]
        return "\n".join(lines)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, so pickle and deepcopy make it again from the backbone's class.
        return blank, (Multiplex, type(self.backbone)), self.__dict__

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
        MuxwrapError: the model was not made by :func:`muxwrap.wrap`, or is unwrapped again.
    """
    if not isinstance(model, Multiplex) or not model.attached:
        raise MuxwrapError(f"{call}({type(model).__name__}): not a wrapped model; give what muxwrap.wrap returned")


def _describe(module: nn.Module) -> str:
    """Return a strategy's or demuxer's name, and the options that are not the constructor's defaults."""
    options = options_of(module)
    defaults = inspect.signature(type(module)).parameters
    changed = ", ".join(f"{key}={value!r}" for key, value in options.items() if value != defaults[key].default)
    return getattr(module, "name", type(module).__name__) + (f"({changed})" if changed else "")
