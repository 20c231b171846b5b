"""A mixture with more channels than the stem reads: new weights besides the stem's own, which stay untouched."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muxwrap._util.meta import is_meta
from muxwrap.errors import MuxwrapError
from muxwrap.site import Site, Sites
from muxwrap.strategies.base import Strategy


class Widening(nn.Module):
    """Lets a convolution with weights W for ``dim`` channels read ``width`` channels.

    timm adapts a stem to other ``in_chans`` by repeating W over the new channels, times dim / width. A convolution is
    linear, so the adapted one with trained weights ``repeat(W)·dim/width + Δ`` is

        conv(m; repeat(W)·dim/width + Δ) = conv(reduce(m); W) + conv(m; Δ),

    and the first term is the stem's own convolution on ``dim`` channels. Only Δ is kept here. The backbone's weights
    keep their shape and their gradients, and there is nothing to undo when the model is unwrapped. Δ starts as noise of
    the size of W, since repeated weights alone cannot tell one channel from another.

    Args:
        dim: channels that the backbone reads.
        width: channels of the mixture.
        stem: the convolution that reads the mixture; None where none does: a 1x1 projection to ``dim`` channels then
            takes the part of Δ, and its output is added to ``reduce(m)``.
        seed: fixes Δ at the start.
    """

    def __init__(self, dim: int, width: int, stem: nn.Conv2d | None = None, seed: int = 0) -> None:
        super().__init__()
        self.dim, self.width, self.in_stem = dim, width, stem is not None
        with torch.device("cpu"):
            if stem is None:
                self.added = nn.utils.skip_init(nn.Conv2d, width, dim, 1, bias=False, device="cpu")
                std = width**-0.5
            else:
                geometry = {key: getattr(stem, key) for key in ("stride", "padding", "dilation", "padding_mode")}
                self.added = nn.utils.skip_init(
                    nn.Conv2d, width, stem.out_channels, stem.kernel_size, bias=False, device="cpu", **geometry
                )
                own = 1.0 if is_meta(stem.weight) else float(stem.weight.detach().float().std())
                std = own * (dim / width) ** 0.5
            generator = torch.Generator("cpu").manual_seed(seed)
            noise = torch.randn(self.added.weight.shape, generator=generator, dtype=torch.float32)
        self.added.weight = nn.Parameter(noise * std)

    def reduce(self, mixture: Tensor) -> Tensor:
        """Sum the channels that share a weight of the stem, times dim / width: ``[g, width, H, W] -> [g, dim, H, W]``."""
        parts = mixture.split(self.dim, dim=1)
        last = parts[-1]
        whole = [*parts[:-1], nn.functional.pad(last, (0, 0, 0, 0, 0, self.dim - last.shape[1]))]
        total: Tensor = torch.stack(whole).sum(0)
        return total * (self.dim / self.width)

    def forward(self, mixture: Tensor) -> Tensor:
        """Convolve the mixture with Δ: what is added to the stem's output, or to the reduced mixture."""
        added: Tensor = self.added(mixture)
        return added


def widenings(backbone: nn.Module, sites: Sites, strategy: Strategy) -> nn.ModuleList:
    """Return one :class:`Widening` per mux site, or none if the strategy keeps the number of channels."""
    if strategy.width == strategy.dim:
        return nn.ModuleList()
    return nn.ModuleList(
        Widening(strategy.dim, strategy.width, stem_at(backbone, site, strategy.dim), strategy.seed)
        for site in sites.mux
    )


def stem_at(backbone: nn.Module, site: Site, dim: int) -> nn.Conv2d | None:
    """Return the convolution that reads a mixture: the first one inside the module whose input is mixed, if it fits."""
    if site.side == "output":
        return None
    module = backbone.get_submodule(site.path)
    first = next((m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    # Subclasses may treat their weights or padding in ways of their own, which a plain convolution would not follow.
    plain = type(first) is nn.Conv2d and first.groups == 1 and first.in_channels == dim
    return first if plain else None  # type: ignore[return-value]


def check_used(left: dict[int, Tensor], sites: Sites) -> None:
    """Refuse a call in which a wide mixture reached no stem.

    Raises:
        MuxwrapError: it did not.
    """
    for k in left:
        raise MuxwrapError(
            f"the mixture made at the {sites.mux[k]} reached no convolution that reads its channels; name the first "
            "convolution: mux_at='its.path@input'"
        )
