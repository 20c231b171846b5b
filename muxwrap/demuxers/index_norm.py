"""What comes out of a demuxer, without the trace of the index that it came out at."""

from __future__ import annotations

from torch import Tensor, nn


class IndexNorm(nn.Module):
    """Gives every feature mean 0 and variance 1 at every index: ``[g, n, ..., dim] -> [g, n, ..., dim]``.

    A demuxer has weights per index, and what it returns shows at which index a row stood: rows of one index have more in
    common with each other than with the rest. A loss that compares the rows of a batch finds that before anything else. In
    training with in-batch negatives an anchor and its positive stand at the same index of two calls, and the loss falls to
    nothing without a look at the row. Two things prevent it, and each needs the other:

    * ``wrap(..., shuffle=True)`` deals rows to the indices at random in training, so that the index is no help to the loss;
    * this norm takes away what a linear map can read of the index, in evaluation, too. Classes of equal means are at chance
      for every linear probe.

    A batch norm without an affine part (Ioffe and Szegedy 2015), a feature of an index being a channel: statistics are
    those of the batch in training, over mixtures and positions (padding included), and running means in evaluation.
    :func:`muxwrap.training.settle_index_norm` makes them exact after training, ``nn.SyncBatchNorm.convert_sync_batchnorm``
    takes them over all ranks. As with any batch norm, a batch wants many mixtures.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
    """

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n * dim, affine=False)  # a child of its own, which conversions of batch norms find

    def forward(self, separated: Tensor) -> Tensor:
        """Norm ``[g, n, ..., dim]``.

        Raises:
            ValueError: in training, one mixture with one position has no variance.
        """
        channels = separated.movedim(1, -2)  # [g, ..., n, dim]
        normed: Tensor = self.norm(channels.flatten(-2).flatten(0, -2))
        return normed.view(channels.shape).movedim(-2, 1)
