"""The strategy's own way back, with nothing to learn."""

from __future__ import annotations

from torch import Tensor

from muxwrap.demuxers.base import registry
from muxwrap.demuxers.of_strategy import OfStrategy
from muxwrap.errors import MuxwrapError
from muxwrap.strategies.base import Strategy
from muxwrap.strategies.features.identity import Identity


@registry.register("unbind")
class Unbind(OfStrategy):
    """h_i = φ_i⁻¹(h / s), or the adjoint: :meth:`~muxwrap.strategies.Strategy.separate` of what the trunk made.

    No parameters: the backbone's own head, shared by the indices, reads what comes out. The trunk has to preserve the
    code in which the instances were bound, which it learns in training; an untrained one does not.
    Where the mixture has tokens of its own (``pool``), every token gets what its place has become, plus what it had more
    than the mean there when it was mixed.
    Cost: that of the strategy's ``unbind``.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        strategy: the strategy that mixed.
        center_gradients: in training, see :func:`~muxwrap.demuxers.centering.centered`.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: the strategy has keys for another ``n`` or ``dim``, or no way back.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        strategy: Strategy,
        center_gradients: bool = True,
        hide_index: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, strategy=strategy, hide_index=hide_index, seed=seed)
        self.center_gradients = center_gradients
        if strategy.n != n or not _separates(strategy, dim):
            raise MuxwrapError(
                f"Unbind(n={n}, dim={dim}) cannot undo {type(strategy).__name__}(n={strategy.n}, dim={strategy.dim}): "
                "the keys do not fit. Separate where there are as many features as where they were mixed, or take the "
                "demuxer 'key' or 'mlp'"
            )

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the last axis is not ``dim``.
        """
        self.check_features(h)
        return self.finished(self.strategy.separate(h))


def _separates(strategy: Strategy, dim: int) -> bool:
    """Return whether a strategy separates what a trunk made of ``dim`` features: as many as it has keys for.

    Images it never does: what a trunk makes of a mixture for its head is not an image of the same size.
    """
    if isinstance(strategy, Identity):  # no keys
        return True
    if strategy.places_tokens:
        return strategy.dim == dim
    has_way_back = type(strategy).unbind is not Strategy.unbind
    return strategy.sees != "image" and has_way_back and strategy.dim == dim
