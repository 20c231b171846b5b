"""A model whose trunk runs once for every n rows, and what training scripts ask of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from muxwrap._hooks.adapters import inside
from muxwrap._hooks.attachment import Attachment
from muxwrap._hooks.components import Components
from muxwrap._model.attributes import Attributes
from muxwrap._model.copies import sizes_of
from muxwrap._model.forwarding import (
    blank,
    class_for,
    shown,
)
from muxwrap._model.guarded import Guarded, checked
from muxwrap._model.saving import Saving
from muxwrap.building import Settings, build, check_backbone, check_shuffle
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.registry import options_of
from muxwrap.site import Sites, percent
from muxwrap.strategies.base import Strategy


class Multiplex(Attributes, Guarded, Saving):
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
        check_finite: what is done about rows with NaN or infinity: ``"raise"``, ``"isolate"`` or nothing (False).
        largest: the largest number that a row may hold where rows are mixed, for ``check_finite``; None for no bound.
        shuffle: whether rows are dealt to mixtures and indices at random in training.
    """

    _OWN = frozenset(
        {
            "backbone",
            "n",
            "_cost",
            "_n",
            "sizes",
            "sites",
            "strategy",
            "demuxers",
            "widenings",
            "_check_finite",
            "_largest",
            "shuffle",
            "training",
            "_attachment",
        }
    )

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
        *,
        shuffle: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_shuffle(shuffle)
        options["check_finite"] = checked(
            options.get("check_finite", False), f"wrap({type(backbone).__name__}, check_finite)"
        )
        self.sizes = sizes_of(n)
        made = build(backbone, self.sizes[-1], Settings(strategy, demux, **options))
        self._hold(replace(made, shuffle=shuffle))
        self._n = self.sizes[-1]

    def _hold(self, made: Components) -> None:
        """Take the components and attach them. The backbone comes last: its head's parameters are the model's last."""
        self.sites: Sites = made.sites
        self.strategy = made.strategy
        self.demuxers = made.demuxers
        self.widenings = made.widenings
        self.check_finite = made.check_finite
        self.shuffle = made.shuffle
        self._cost = made.cost
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

    def _components(self) -> Components:
        """Return what a call works with; read anew for every call, since any of it may be replaced."""
        return Components(
            self.backbone,
            self.sizes[-1],
            self.sites,
            self.strategy,
            self.demuxers,
            self.widenings,
            self.check_finite,
            self.largest,
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

    # -- what Python and torch ask of an object -----------------------------------------------------------------------

    def __repr__(self) -> str:
        lines = [
            f"Multiplex({type(self.backbone).__name__}, n={self.n}{_of_sizes(self.sizes)})",
            *(f"  mix       {site}: {_describe(self.strategy)}" for site in self.sites.mux),
            *(f"  separate  {s}: {_describe(d)}" for s, d in zip(self.sites.demux, self.demuxers, strict=True)),
            *self._worth(),
            f"  added     {self.added_parameters():,} parameters to the backbone's "
            f"{sum(p.numel() for p in self.backbone.parameters()):,}",
        ]
        return "\n".join(lines)

    def _worth(self) -> Iterator[str]:
        """Yield what is known of what multiplexing saves."""
        if self.sites.share is not None:
            yield f"  trunk     {percent(self.sites.share)} of the operations run once per mixture"
        if self._cost is not None and self.n == self.sizes[-1]:
            yield f"  cost      a row takes {self._cost:.2f} times the operations of the bare model"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, so pickle and deepcopy make it again from the backbone's class.
        return blank, (Multiplex, shown(self.backbone)), self.__dict__

    def __prepare_scriptable__(self) -> Any:
        raise MuxwrapError(
            "torch.jit.script reads source code, and knows no hooks; call torch.jit.trace(model, ...), or export "
            "model.grouped() with torch.export"
        )

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
        inner = ", which is its .get_base_model()" if isinstance(inside(model), Multiplex) else ""  # type: ignore[arg-type]
        raise MuxwrapError(
            f"{call}({type(model).__name__}): not a wrapped model; give what muxwrap.wrap returned{inner}"
        )
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
