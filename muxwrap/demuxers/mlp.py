"""A small network of its own for every index."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.sizes import fixed, moved
from muxwrap.demuxers.base import Demuxer, registry
from muxwrap.demuxers.few import activated, normed
from muxwrap.demuxers.sentinel_ids import check_sentinel_id, overwrite_first
from muxwrap.errors import MuxwrapError


@registry.register("mlp")
class MLP(Demuxer):
    """Per index i: Linear_i(dim, dim) -> GELU -> LayerNorm_i (DataMUX, section 3.2, "MLP demuxing").

    Learns retrieval several times faster than ``key``, and its parameters grow with n: n·(dim² + 3·dim).
    Cost: dim² multiplications per instance and position; where one position is separated, all indices in one product.
    With fewer than 4 features it is linear: a norm over them would leave next to nothing.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        dropout: probability of dropping a feature before the linear maps; the indices share the mask.
        eps: of the norms.
        sentinel_id: a token id that overwrites token 0 of every instance before it is embedded, as published.
        center_gradients: in training, see :func:`~muxwrap.demuxers.centering.centered`; not in the papers.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values, which are those of ``nn.Linear`` and ``nn.LayerNorm``.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``dropout`` or ``sentinel_id``.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        dropout: float = 0.0,
        eps: float = 1e-5,
        sentinel_id: int | None = None,
        center_gradients: bool = True,
        hide_index: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, hide_index=hide_index, seed=seed)
        self.center_gradients = center_gradients
        if not 0 <= dropout < 1:
            raise MuxwrapError(f"mlp(dropout={dropout!r}): it is a probability, 0 <= dropout < 1")
        self.dropout, self.eps = dropout, eps
        self.sentinel_id = check_sentinel_id("mlp", sentinel_id)
        self.uses_sentinel_ids = sentinel_id is not None
        bound = 1 / math.sqrt(dim)
        with self.seeded():
            self.weight = nn.Parameter(torch.empty(n, dim, dim).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.empty(n, dim).uniform_(-bound, bound))
            self.norm_weight = nn.Parameter(torch.ones(n, dim))
            self.norm_bias = nn.Parameter(torch.zeros(n, dim))

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the last axis is not ``dim``.
        """
        self.check_features(h)
        h = F.dropout(h, self.dropout, self.training)
        if h.ndim > 2 and fixed(h.shape)[1] != 1:
            # Index by index: what is between the linear map and the output stays in the caches.
            return self.finished(torch.stack([self._separate(h, i) for i in range(self.n)], dim=1))
        u = F.linear(h, self.weight.flatten(0, 1), self.bias.flatten()).unflatten(-1, (self.n, self.dim))
        u = normed(activated(u), self.norm_weight, self.norm_bias, self.eps)
        return self.finished(moved(u, -2, 1))

    def insert_sentinel_ids(self, ids: Tensor) -> Tensor:
        """Overwrite token 0 of every instance: ``[g, n, L] -> [g, n, L]``."""
        return overwrite_first(ids, self.sentinel_id)

    def _separate(self, h: Tensor, i: int) -> Tensor:
        u = activated(F.linear(h, self.weight[i], self.bias[i]))
        return normed(u, self.norm_weight[i], self.norm_bias[i], self.eps)
