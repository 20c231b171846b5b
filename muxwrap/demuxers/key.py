"""One network for all indices, whose input a learned key joins: it selects the instance to take out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.demuxers.base import Demuxer, registry
from muxwrap.demuxers.few import activated, normed
from muxwrap.demuxers.sentinel_ids import check_sentinel_id, overwrite_first
from muxwrap.errors import MuxwrapError


@registry.register("key")
class Key(Demuxer):
    """GELU(Linear([h; k_i])), then residual blocks u + GELU(Linear(u)), then LayerNorm (MUX-PLM, "RSA demux").

    Its size hardly depends on n: the n·dim keys are all that belongs to an index.
    Cost: the first layer is W_h h + (W_k k_i + b), so dim² multiplications per *mixture* and position and n·dim²
    per call, where the concatenation would take 2·dim² per instance; each block takes dim² per instance and position.
    With fewer than 4 features it is linear: a norm over them would leave next to nothing.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        layers: residual blocks after the first layer (the published fine-tuning uses 3 layers in all).
        inner_norm: put the norm inside the last block, u + LayerNorm(GELU(Linear(u))), as published, instead of after it.
        eps: of the norm.
        sentinel_id: a token id that overwrites token 0 of every instance before it is embedded, as published.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values; keys are standard normal.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``layers`` or ``sentinel_id``.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        layers: int = 1,
        inner_norm: bool = False,
        eps: float = 1e-5,
        sentinel_id: int | None = None,
        hide_index: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, hide_index=hide_index, seed=seed)
        if isinstance(layers, bool) or not isinstance(layers, int) or layers < 0:
            raise MuxwrapError(f"key(layers={layers!r}): it is the number of residual blocks, an int >= 0")
        if inner_norm and not layers:
            raise MuxwrapError("key(layers=0, inner_norm=True): there is no block for the norm to be inside of")
        self.layers = layers
        self.inner_norm, self.eps = inner_norm, eps
        self.sentinel_id = check_sentinel_id("key", sentinel_id)
        self.uses_sentinel_ids = sentinel_id is not None
        with self.seeded():
            self.keys = nn.Parameter(torch.randn(n, dim))
            self.join = nn.Linear(2 * dim, dim)  # W_h | W_k
            self.blocks = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
            self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the last axis is not ``dim``.
        """
        self.check_features(h)
        of_mixture, of_key = self.join.weight.split(self.dim, dim=1)
        keyed = F.linear(self.keys, of_key, self.join.bias).view(self.n, *[1] * (h.ndim - 2), self.dim)
        u = activated(F.linear(h, of_mixture).unsqueeze(1) + keyed)
        for block in self.blocks[: self.layers - self.inner_norm]:
            u = u + activated(block(u))
        return self.finished(u + self._normed(activated(self.blocks[-1](u))) if self.inner_norm else self._normed(u))

    def _normed(self, u: Tensor) -> Tensor:
        return normed(u, self.norm.weight, self.norm.bias, self.eps)

    def insert_sentinel_ids(self, ids: Tensor) -> Tensor:
        """Overwrite token 0 of every instance: ``[g, n, L] -> [g, n, L]``."""
        return overwrite_first(ids, self.sentinel_id)
