"""Demuxers that use the strategy which mixed."""

from __future__ import annotations

from muxwrap.demuxers.base import Demuxer
from muxwrap.strategies.base import Strategy


class OfStrategy(Demuxer):
    """Holds the strategy that mixed, outside of the module tree.

    The model has the strategy in its tree already: a second place would double its entries in the state dict. deepcopy and
    pickle follow the tuple to the copy that the model's tree gets.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        strategy: the strategy that mixed.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values.
    """

    def __init__(self, n: int, dim: int, *, strategy: Strategy, hide_index: bool, seed: int) -> None:
        super().__init__(n, dim, hide_index=hide_index, seed=seed)
        self._outside_tree = (strategy,)

    @property
    def strategy(self) -> Strategy:
        """The strategy that mixed, which is not a submodule of this one."""
        return self._outside_tree[0]
