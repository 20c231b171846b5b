"""The strategy's own way back, with nothing to learn."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.demuxers.base import Demuxer, demuxers
from muxwrap.errors import MuxwrapError
from muxwrap.strategies.base import Strategy


@demuxers.register("unbind")
class Unbind(Demuxer):
    """h_i = φ_i⁻¹(h / s), or the adjoint: :meth:`~muxwrap.strategies.Strategy.separate` of what the trunk made.

    No parameters: the backbone's own head, shared by the indices, reads what comes out. It asks of the trunk that it
    keeps the code in which the instances were bound, which a trunk learns in training and does not do untrained.
    Cost: that of the strategy's ``unbind``.

    With ``batch_norm`` every feature of every index is standardised over the mixtures (and positions) of a batch; in
    evaluation, and where a batch holds one, by running statistics. What all rows have in common at an index is most of
    what an untrained trunk gives. Without the norm a step of the optimizer lets that grow and what tells rows apart
    fade, the more so the larger n is; the gradient through the norm has no part that would do either.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        strategy: the strategy that mixed.
        batch_norm: standardise; n·dim running means and as many variances are kept.
        seed: kept, but nothing is drawn.

    Raises:
        MuxwrapError: the strategy's keys are for another ``n`` or ``dim``.
    """

    def __init__(self, n: int, dim: int, *, strategy: Strategy, batch_norm: bool = False, seed: int = 0) -> None:
        super().__init__(n, dim, seed=seed)
        if strategy.n != n or not strategy.fits(dim):
            raise MuxwrapError(
                f"Unbind(n={n}, dim={dim}) cannot undo {type(strategy).__name__}(n={strategy.n}, dim={strategy.dim}): "
                "the keys do not fit. Separate where there are as many features as where they were mixed, or take the "
                "demuxer 'key' or 'mlp'"
            )
        # In a tuple, since the model has the strategy in its tree already: a second place would double its entries in
        # the state dict. deepcopy and pickle follow the tuple to the copy that the model's tree gets.
        self._held = (strategy,)
        self.batch_norm = batch_norm
        # A module of torch, so that SyncBatchNorm.convert_sync_batchnorm and update_bn find it.
        self.norm = nn.BatchNorm1d(n * dim, affine=False) if batch_norm else None

    @property
    def strategy(self) -> Strategy:
        """The strategy that mixed, which is not a submodule of this one."""
        return self._held[0]

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the last axis is not ``dim``.
        """
        self.check_features(h)
        separated = self.strategy.separate(h)
        return separated if self.norm is None else self._standardised(self.norm, separated)

    def _standardised(self, norm: nn.BatchNorm1d, separated: Tensor) -> Tensor:
        features = separated.movedim(1, -2).flatten(-2)
        rows = features.flatten(0, -2)
        alone = len(rows) == 1  # one mixture of one position has no deviation
        rows = F.batch_norm(rows, norm.running_mean, norm.running_var, eps=norm.eps) if alone else norm(rows)
        return rows.view_as(features).unflatten(-1, (self.n, self.dim)).movedim(-2, 1)
