"""Put data multiplexing into a model, and take it out again."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from muxwrap import checkpoint
from muxwrap._hooks.attachment import Attached
from muxwrap.defaults import DemuxChoice, StrategyChoice, build_demuxers, build_strategy, image_pixels, prefix_length
from muxwrap.errors import MuxwrapError, check_count
from muxwrap.forwarding import blank, class_for, forwarded
from muxwrap.grouped import Grouped
from muxwrap.registry import options_of
from muxwrap.site import Sites
from muxwrap.sites import Choice, check_paths, locate, verify


class Multiplex(Attached):
    """A model whose trunk runs once for every n rows of a batch (DataMUX, Murahari et al., NeurIPS 2022).

    Call it as the backbone is called, with any number of rows: as many come back, in the same order, in the backbone's
    own output type. Rows ``j·n .. j·n + n - 1`` share mixture j, and an incomplete last group is filled with rows of the
    batch. With ``labels`` the backbone computes its own loss over exactly the batch's rows. What a Hugging Face output
    holds beyond the answers (``hidden_states``, ``attentions``) belongs to the mixtures.

    The backbone is attached to, not edited: ``model.backbone(x)`` stays the bare model, and :func:`unwrap` takes every
    hook off. Make the optimizer after wrapping: a wrapped model has parameters of its own.

    Args:
        backbone: any module: timm, torchvision, Transformers, or user-written.
        n: instances in a mixture; 1 is the bare model.
        strategy: φ: a name of :func:`list_strategies`, a class, a ``functools.partial`` of one (for its options), or an
            instance. By default ``layout`` where a CNN reads raw images, slots elsewhere, or Hadamard codes where
            neither fits.
        demux: likewise, of :func:`list_demuxers`.
        mux_at: where to mix, see :func:`find_sites`; by default found.
        demux_at: where to separate.
        example_input: a call of the backbone, one row is enough: a tensor, a tuple of arguments or a dict of keyword
            arguments. Needed where the model's own metadata does not tell what it takes.
        sites: found sites; then nothing is searched and no example is needed.
        seed: fixes φ and the demuxer's initial values; the global random state is left alone.
        check_finite: refuse rows with NaN or infinity where they are mixed (eager mode).

    Raises:
        MuxwrapError: what cannot work; the backbone is then as it was.
    """

    def __new__(cls, backbone: nn.Module, *_: Any, **__: Any) -> Multiplex:
        """Make an instance of the subclass that has the forward signature of the backbone's class."""
        _check_backbone(backbone)
        return object.__new__(class_for(Multiplex, type(backbone)))

    def __init__(
        self,
        backbone: nn.Module,
        n: int,
        strategy: StrategyChoice = None,
        demux: DemuxChoice = None,
        *,
        mux_at: Choice = None,
        demux_at: Choice = None,
        example_input: Any = None,
        sites: Sites | None = None,
        seed: int = 0,
        check_finite: bool = False,
    ) -> None:
        example = None
        try:
            check_count(n)
            if sites is None:
                prefix, pixels = prefix_length(demux, n), image_pixels(strategy, n)
                sites, example = locate(
                    backbone, example_input, mux_at=mux_at, demux_at=demux_at, prefix=prefix, pixels=pixels
                )
            check_paths(backbone, sites)
            phi = build_strategy(strategy, n, sites, seed)
            separators = build_demuxers(demux, n, sites, phi, seed)
            _follow(backbone, phi, *separators)
            super().__init__(backbone, n, sites, phi, separators, check_finite)
            _follow(backbone, self.widenings)
            self._follow_mode()
            if example is not None:
                verify(self, example)
        except MuxwrapError as error:
            call = f"Multiplex({type(backbone).__name__}, n={n!r}, strategy={strategy!r}, demux={demux!r})"
            raise MuxwrapError(f"{call}: {error}") from error

    def _follow_mode(self) -> None:
        """Take on the backbone's mode, without touching what the user froze inside it."""
        self.training = self.backbone.training
        for module in (self.strategy, self.widenings, self.demuxers):
            module.train(self.training)

    def grouped(self) -> Grouped:
        """Return the view of this model that takes and gives ``[groups, n, ...]``: for export with free groups."""
        return Grouped(self)

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """Write ``muxwrap.json`` and ``model.safetensors`` (and the backbone's config, if it has one) into a folder.

        :func:`load` reads them back.
        """
        checkpoint.save(self, folder)

    def generate(self, *_: Any, **__: Any) -> None:
        """Refuse: a mixture has one next token, not n.

        Raises:
            MuxwrapError: always.
        """
        raise MuxwrapError(
            "generate() is not supported: the instances of a mixture would have to share their next token; "
            "call model.backbone.generate(...) for the bare model"
        )

    # -- what training scripts ask of a model -------------------------------------------------------------------------

    def reset_classifier(self, num_classes: int, *args: Any, **kwargs: Any) -> None:
        """Give a timm backbone a new classifier; mixing and separating are attached to the new one."""
        self.detach()
        try:
            self.backbone.reset_classifier(num_classes, *args, **kwargs)  # type: ignore[operator]
        finally:
            self.attach()

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay (timm): the backbone's own, and one-vector-an-index keys of φ."""
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
        """Return how many numbers φ and the demuxers hold beside the backbone, trained or fixed."""
        added = (self.strategy, self.widenings, self.demuxers)
        held = [*(p for module in added for p in module.parameters()), *self.strategy.buffers()]
        return sum(value.numel() for value in held)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "backbone" or name.startswith("__"):
                raise
        return forwarded(self.backbone, name)

    def __setattr__(self, name: str, value: Any) -> None:
        backbone = self.__dict__.get("_modules", {}).get("backbone")
        if isinstance(value, nn.Module) and name not in self._modules and name in getattr(backbone, "_modules", ()):
            raise MuxwrapError(
                f"model.{name} = {type(value).__name__}(...) would not reach the backbone's own {name}; unwrap, change it and "
                f"wrap again, or set model.backbone.{name} if nothing is mixed or separated there"
            )
        super().__setattr__(name, value)

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
            "nn.DataParallel copies modules but not what their hooks point at, so its copies would answer for the first "
            "one; use torch.nn.parallel.DistributedDataParallel"
        )


def _check_backbone(backbone: object) -> None:
    if not isinstance(backbone, nn.Module):
        raise MuxwrapError(f"Multiplex({backbone!r}): a {type(backbone).__name__} is no torch.nn.Module")
    for path, module in backbone.named_modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        owners = (getattr(getattr(hook, "func", hook), "__self__", None) for hook in hooks)
        if isinstance(module, Attached) or any(isinstance(owner, Attached) for owner in owners):
            raise MuxwrapError(
                f"Multiplex({type(backbone).__name__}): it is wrapped already (at {path or 'its root'!r}); "
                "muxwrap.unwrap the wrapped model first"
            )


def _follow(backbone: nn.Module, *modules: nn.Module) -> None:
    """Move modules to where the backbone is, in its dtype."""
    reference = next((p for p in backbone.parameters() if p.is_floating_point()), None)
    if reference is not None:
        for module in modules:
            module.to(device=reference.device, dtype=reference.dtype)


def _describe(module: nn.Module) -> str:
    """Return a strategy's or demuxer's name, and the options that are not the constructor's defaults."""
    options = options_of(module)
    defaults = inspect.signature(type(module)).parameters
    said = ", ".join(f"{key}={value!r}" for key, value in options.items() if value != defaults[key].default)
    return getattr(module, "name", type(module).__name__) + (f"({said})" if said else "")
