"""Slots taken apart again, and a net that makes an instance of each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.demuxers.base import registry
from muxwrap.demuxers.of_strategy import OfStrategy
from muxwrap.errors import MuxwrapError, check_dim
from muxwrap.strategies.base import Strategy
from muxwrap.strategies.features.reversible import Reversible


@registry.register("uncouple")
class Uncouple(OfStrategy):
    """h_i = B·ReLU(A_i s_i + a_i) + b, s_1 ... s_n the slots of h, taken back through the strategy's own nets.

    The other half of the strategy ``reversible`` (RevMUX, Xu et al., EMNLP 2024, section 3): what its nets added in the mixture
    is taken away from what the trunk made of it, by the same nets, and a layer of each index's own and one for all make the
    features that the backbone's head knows. Beside another strategy h is only cut into n slots.
    Cost: dim·hidden/n + hidden·dim multiplications per instance and position, and those of the nets.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        strategy: the strategy that mixed.
        hidden: features between the two layers; 3·dim by default, as published.
        center_gradients: in training, see :func:`~muxwrap.demuxers.centering.centered`; not in the paper.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values, which are those of ``nn.Linear``.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``hidden``, n > dim, or the strategy ``reversible`` for another ``n`` or ``dim``.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        strategy: Strategy,
        hidden: int | None = None,
        center_gradients: bool = True,
        hide_index: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, strategy=strategy, hide_index=hide_index, seed=seed)
        self.center_gradients = center_gradients
        self.hidden = hidden if hidden is None else check_dim(hidden)
        coupled = isinstance(strategy, Reversible)
        if n > dim or (coupled and (strategy.n, strategy.dim) != (n, dim)):
            raise MuxwrapError(
                f"uncouple(n={n}, dim={dim}) cannot take apart what {type(strategy).__name__}(n={strategy.n}, "
                f"dim={strategy.dim}) mixed; separate where there are as many features as where they were mixed, at least one "
                "an instance, or take the demuxer 'mlp'"
            )
        inner = 3 * dim if hidden is None else hidden
        self.slot_sizes = [dim // n + (i < dim % n) for i in range(n)]
        bounds = (math.sqrt(n / dim), 1 / math.sqrt(inner))
        with self.seeded():
            self.weight = nn.Parameter(torch.empty(dim, inner).uniform_(-bounds[0], bounds[0]))  # A_1, A_2, ... as rows
            self.bias = nn.Parameter(torch.empty(n, inner).uniform_(-bounds[0], bounds[0]))
            self.out_weight = nn.Parameter(torch.empty(dim, inner).uniform_(-bounds[1], bounds[1]))
            self.out_bias = nn.Parameter(torch.empty(dim).uniform_(-bounds[1], bounds[1]))

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the last axis is not ``dim``.
        """
        self.check_features(h)
        coupled = isinstance(self.strategy, Reversible)
        slots = self.strategy.uncouple(h) if coupled else h.split(self.slot_sizes, dim=-1)  # type: ignore[operator]
        maps = zip(slots, self.weight.split(self.slot_sizes), self.bias, strict=True)
        inner = torch.stack([F.relu(slot @ weight + bias) for slot, weight, bias in maps], dim=1)
        return self.finished(F.linear(inner, self.out_weight, self.out_bias))
