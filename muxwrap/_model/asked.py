"""What timm's, Transformers' and PEFT's scripts ask of a wrapped model, where its backbone alone cannot answer."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

from torch import nn

from muxwrap._hooks.adapters import inside, prefix_of
from muxwrap._hooks.parts import FEATURES
from muxwrap._model import copies
from muxwrap._model.elastic import Elastic
from muxwrap._model.forwarding import blank, shown
from muxwrap.site import Sites


class Asked(Elastic):
    """The part of a wrapped model that answers other libraries."""

    backbone: nn.Module
    sites: Sites

    def attach(self) -> None:
        """Put the hooks on."""
        raise NotImplementedError

    def detach(self) -> nn.Module:
        """Take the hooks off."""
        raise NotImplementedError

    def _call_part(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method that is a part of the backbone's forward, with as many rows per mixture as in a whole call."""
        indices = self._indices(self.n)
        taken = indices // self.n if name == FEATURES else 1  # by a row
        part = self._multiplexed(indices, taken, name)
        return copies.mean(part, taken, args, kwargs, f"model.{name}(...)")

    def _attached_anew(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method that may replace modules with hooks, and put the hooks on the new ones."""
        self.detach()
        try:
            return method(*args, **kwargs)
        finally:
            self.attach()

    def _unloaded(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method that takes the backbone out of PEFT's shell, and return what is left, wrapped as before."""
        prefix = prefix_of(self.backbone)
        self._attached_anew(method, *args, **kwargs)
        made = replace(
            self._components(),
            backbone=inside(self.detach()),
            sites=self.sites.renamed(lambda path: path.removeprefix(prefix)),
        )
        model: Any = blank(type(self).__base__, shown(made.backbone))
        model.__dict__.update(
            {key: copy(value) if isinstance(value, dict) else value for key, value in vars(self).items()}
        )
        model._hold(made)
        return model

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay (timm): the backbone's own, and those of one vector per index.

        Those are keys, biases and the weights of norms; where there is one for all indices, timm goes by its one axis.
        """
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()} | self._components().vectors()

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
