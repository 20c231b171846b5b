"""The plain models: fewer layers, and fewer tokens after one of them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.studies.convert.backbone import ClassTokenLayer, Encoder


def keep_layers(model: Encoder, layers: int) -> Encoder:
    """Return a copy with the first so many layers, the last of which computes the class token alone."""
    kept = copy.deepcopy(model)
    kept.sizes = replace(model.sizes, layers=layers)
    kept.layers = kept.layers[:layers]
    kept.layers[-1].__class__ = ClassTokenLayer  # the weights are a layer's
    return kept


class PooledEncoder(Encoder):
    """An encoder whose tokens are pooled after a layer, those of every row among themselves.

    The class token stays as it is, and every ``n`` tokens after it become their mean, over those that are not padding. In the
    next layer the pooled queries read the tokens as they were (Funnel-Transformer, Dai et al. 2020, section 2.2); after
    it a token counts as often as it has members, the log of their number being added to the scores (token merging,
    Bolya et al. 2023, section 3).
    """

    after: int
    n: int

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embeddings(input_ids, token_type_ids)
        mask = attention_mask[:, None, None].bool()
        for layer in self.layers[: self.after]:
            x = layer(x, mask)
        pooled, size = pool(x, attention_mask, self.n)
        shortened = self.layers[self.after]
        x = shortened.reading(pooled[:, :1] if isinstance(shortened, ClassTokenLayer) else pooled, x, mask)
        bias = size.log()[:, None, None]
        for layer in self.layers[self.after + 1 :]:
            x = layer(x, bias)
        return self.head(x[:, 0])


def pooled_after(model: Encoder, after: int, n: int) -> PooledEncoder:
    """Return a copy whose tokens are pooled by n after so many layers."""
    made = copy.deepcopy(model)
    made.__class__ = PooledEncoder
    assert isinstance(made, PooledEncoder)
    made.after, made.n = after, n
    return made


def pool(x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pool ``[rows, L, dim]`` to ``[rows, 1 + ceil((L - 1) / n), dim]``, and return how many members each token has."""
    missing = -(x.shape[1] - 1) % n
    real = F.pad(mask[:, 1:].to(x.dtype), (0, missing)).unflatten(1, (-1, n))
    tokens = F.pad(x[:, 1:], (0, 0, 0, missing)).unflatten(1, (-1, n))
    size = real.sum(-1)
    means = (tokens * real.unsqueeze(-1)).sum(2) / size.clamp(min=1).unsqueeze(-1)
    return torch.cat([x[:, :1], means], 1), torch.cat([torch.ones_like(size[:, :1]), size], 1)
