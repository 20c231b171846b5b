"""What a multiplexed model is made of: a backbone, where it is cut, and what mixes and separates there."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import nn

from muxwrap._hooks.embeddings import EMBEDS
from muxwrap._hooks.widening import widenings
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sites
from muxwrap.strategies.base import Strategy


class Parts(nn.Module):
    """The parts of a multiplexed model, checked to go together.

    Args:
        backbone: any module; it is not edited.
        n: instances in a mixture.
        sites: where to mix and to separate, checked to exist by whoever found them.
        strategy: mixes at every mux site. If its mixtures have other channels than the backbone there, the stem is
            widened, see :class:`~muxwrap._hooks.widening.Widening`.
        demuxers: one a demux site.
        check_finite: refuse NaN and infinity where instances are mixed; one bad row would spoil its whole group. Costs a
            synchronisation a call; not checked in compiled code.

    Raises:
        MuxwrapError: the demuxer marks token ids, or a module is to run twice, where that cannot be done.
    """

    def __init__(
        self,
        backbone: nn.Module,
        n: int,
        sites: Sites,
        strategy: Strategy,
        demuxers: Sequence[Demuxer],
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.n = n
        self.sites = sites
        self.strategy = strategy
        self.demuxers = nn.ModuleList(demuxers)
        self.check_finite = check_finite
        self.widenings = widenings(backbone, sites, strategy)
        self._check_settings()

    @property
    def demuxer(self) -> Demuxer:
        """The demuxer (of the first head, where a model has several)."""
        return self.demuxers[0]  # type: ignore[return-value]

    def _check_settings(self) -> None:
        """Refuse what the published text models do, where it cannot be done."""
        for site in self.sites.mux:
            module = self.backbone.get_submodule(site.path)
            if site.twice and (site.side == "input" or EMBEDS not in inspect.signature(module.forward).parameters):
                raise MuxwrapError(
                    f"the {site} is the output of no module that takes {EMBEDS}, and cannot be run twice"
                )
            if self.demuxer.uses_sentinel_ids and site.side == "input":
                raise MuxwrapError(
                    f"{self.demuxer.name} marks token ids, and nothing is embedded between them and the {site}"
                )
        if (
            self.demuxer.uses_sentinel_ids
            and self.demuxer.prefix_length
            and self.sites.masked
            and self.sites.mask != "ignored"
        ):
            raise MuxwrapError(
                f"{self.demuxer.name}(sentinel_ids=...) makes instances longer than their masks; it goes with sites whose mask "
                "is 'ignored'"
            )
