"""What a multiplexed model is made of: a backbone, where it is cut, and what mixes and separates there."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal

from torch import nn

from muxwrap._hooks.embeddings import EMBEDS
from muxwrap._hooks.trunk import layers_between, list_around
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import MaskMode, Site, Sites
from muxwrap.strategies.base import Strategy

CheckFinite = Literal[False, "raise", "isolate"]

_WITH_MATRICES = (nn.Linear, nn.Bilinear, nn.Embedding)


@dataclass
class Components:
    """The modules and settings that one call works with.

    Args:
        backbone: any module; it is not edited.
        n: instances per mixture.
        sites: where to mix and to separate; they exist in the backbone.
        strategy: mixes at every mux site.
        demuxers: one per demux site.
        widenings: one per mux site where the strategy's mixtures have other channels than the backbone there, else none;
            see :class:`~muxwrap._hooks.widening.Widening`.
        check_finite: what is done about rows with NaN or infinity where instances are mixed, which would spoil their whole
            group: ``"raise"`` refuses them, ``"isolate"`` keeps them out, False passes them on.
        largest: of the numbers of a row there, beyond which it is bad as well; None for no other bound than infinity.
        shuffle: in training, deal the rows of a call to the mixtures and indices at random, and put the answers back in
            order; None does not, and warns where embeddings are trained.
        training: whether the call is one of training.
        copies: indices that a row takes.
        cost: operations of a row as a multiple of those in the bare model, in full groups of n; None where not known.
    """

    backbone: nn.Module
    n: int
    sites: Sites
    strategy: Strategy
    demuxers: nn.ModuleList
    widenings: nn.ModuleList
    check_finite: CheckFinite = False
    largest: float | None = None
    shuffle: bool | None = None
    training: bool = False
    copies: int = 1
    cost: float | None = None

    @property
    def demuxer(self) -> Demuxer:
        """The demuxer (of the first head, where a model has several)."""
        return self.demuxers[0]  # type: ignore[return-value]

    @property
    def shuffles(self) -> bool:
        """Whether rows are dealt at random."""
        return bool(self.shuffle) and self.training and self.n > 1

    @property
    def trains_embeddings(self) -> bool:
        """Whether embeddings that the model may be training would show their index, by what the user chose."""
        return self.shuffle is None and self.training and self.n > 1

    @property
    def added(self) -> tuple[nn.Module, ...]:
        """The modules besides the backbone."""
        return (self.strategy, self.widenings, self.demuxers)

    def parts(self) -> dict[str, nn.Module]:
        """Return the added modules by their names in the wrapped model."""
        several = {"widenings": self.widenings, "demuxers": self.demuxers}
        named = {f"{name}.{k}": part for name, parts in several.items() for k, part in enumerate(parts)}
        return {"strategy": self.strategy, **named}

    def frozen(self) -> list[str]:
        """Return the names of the added modules that have parameters, if none of these trains; nothing otherwise."""
        if any(p.requires_grad for part in self.added for p in part.parameters()):
            return []
        return [name for name, part in self.parts().items() if next(part.parameters(), None) is not None]

    def vectors(self) -> set[str]:
        """Return the names of the added parameters that hold one vector per index, ``[n, size]``."""
        found = set()
        for path, part in self.parts().items():
            for name, module in part.named_modules(prefix=path):
                own = () if isinstance(module, _WITH_MATRICES) else module.named_parameters(recurse=False)
                found |= {f"{name}.{key}" for key, p in own if p.ndim == 2 and p.shape[0] == self.strategy.n}
        return found

    def check(self) -> None:
        """Refuse settings of the published text models where they cannot work.

        Raises:
            MuxwrapError: the demuxer inserts sentinel ids, a module is to run twice, or a part of what passes is named, where
                that cannot be done.
        """
        for site in (*self.sites.mux, *self.sites.demux):
            if site.part is not None and (site in self.sites.mux) == (site.side == "output"):
                raise MuxwrapError(
                    f"the {site} names a part of what passes, which is for inputs that are mixed and outputs that are "
                    "separated; leave part out"
                )
        for site in self.sites.mux:
            self._check_twice(site)
            if self.demuxer.uses_sentinel_ids and site.side == "input":
                raise MuxwrapError(
                    f"{self.demuxer.name} inserts sentinel ids, and nothing is embedded between them and the {site}; mix the "
                    "output of the embeddings"
                )
        self._check_places()
        longer = self.demuxer.uses_sentinel_ids and self.demuxer.prefix_length
        if longer and self.sites.masked and self.sites.mask is not MaskMode.IGNORED:
            raise MuxwrapError(
                f"{self.demuxer.name}(sentinel_ids=...) makes instances longer than their masks; it goes with sites whose mask "
                "is 'ignored'"
            )

    def _check_places(self) -> None:
        if not self.strategy.places_tokens:
            return
        if len(self.sites.mux) != 1 or len(self.sites.demux) != 1:
            raise MuxwrapError(f"{self.strategy.name} mixes at one site and separates at one; name one of each")
        if not list_around(self.backbone, self.sites.mux[0].path)[0]:
            raise MuxwrapError(
                f"{self.strategy.name} mixes between two layers, and the {self.sites.mux[0]} is not in a list of them; "
                "name the output of one with mux_at=, such as mux_at='encoder.layer.1'"
            )
        again = getattr(self.strategy, "again", ())
        layers = len(layers_between(self.backbone, self.sites.mux[0], self.sites.demux[0])) if again else 0
        if again and again[-1][0] >= layers:
            raise MuxwrapError(
                f"{self.strategy.name}(again={again}): {layers} layers run on mixtures, and after {again[-1][0]} of them none "
                "is left; name smaller numbers"
            )
        if self.demuxer.name != "unbind":
            raise MuxwrapError(
                f"{self.strategy.name} keeps the instances at places of their own, where nothing is to be told apart; leave "
                f"demux={self.demuxer.name!r} out, or take 'unbind'"
            )

    def _check_twice(self, site: Site) -> None:
        module = self.backbone.get_submodule(site.path)
        if site.twice and (site.side == "input" or EMBEDS not in inspect.signature(module.forward).parameters):
            raise MuxwrapError(
                f"the {site} is not the output of a module that takes {EMBEDS}, and cannot be run twice; leave twice=False"
            )
