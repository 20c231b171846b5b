"""Layers that compute their first token alone, reading all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BertFirstToken(nn.Module):
    """A layer of BERT's make: ``[rows, L, dim] -> [rows, 1, dim]``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @staticmethod
    def fits(layer: Any) -> bool:
        """Whether it is a layer of BERT's make."""
        attention = getattr(getattr(layer, "attention", None), "self", None)
        named = all(isinstance(getattr(attention, each, None), nn.Linear) for each in ("query", "key", "value"))
        return named and hasattr(layer.attention, "output") and hasattr(layer, "feed_forward_chunk")

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Read all tokens with the first one's query; the mask is ``[rows, 1, 1 or L, L]``, as the layers take it."""
        layer: Any = self.layer
        attention = layer.attention.self
        first = hidden_states[:, :1]
        heads = attention.num_attention_heads
        q, k, v = (
            linear(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for linear, x in zip(
                (attention.query, attention.key, attention.value), (first, hidden_states, hidden_states), strict=True
            )
        )
        if attention_mask is not None:
            attention_mask = attention_mask[..., :1, :]
            attention_mask = attention_mask if attention_mask.dtype == torch.bool else attention_mask.to(q.dtype)
        dropout = attention.dropout.p if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, dropout_p=dropout)
        return layer.feed_forward_chunk(layer.attention.output(read.transpose(1, 2).flatten(2), first))


class BlockFirstToken(nn.Module):
    """A block of timm's vision transformers: ``[rows, L, dim] -> [rows, 1, dim]``."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    @staticmethod
    def fits(block: Any) -> bool:
        """Whether it is a block of timm's with norms before attention and before the two linear maps."""
        parts = ("norm1", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2")
        attention = getattr(block, "attn", None)
        plain = isinstance(getattr(attention, "qkv", None), nn.Linear) and getattr(attention, "gate", None) is None
        return (
            plain
            and all(hasattr(attention, each) for each in ("q_norm", "k_norm", "norm", "proj"))
            and all(hasattr(block, each) for each in parts)
        )

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Read all tokens with the first one's query."""
        block: Any = self.block
        attn, first, normed = block.attn, x[:, :1], block.norm1(x)
        q, k, v = _first_query(attn.qkv, normed, attn.num_heads)
        dropout = attn.attn_drop.p if self.training else 0.0
        read = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=dropout)
        read = attn.proj_drop(attn.proj(attn.norm(read.transpose(1, 2).flatten(2))))
        x = first + block.drop_path1(block.ls1(read))
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _first_query(qkv: Any, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first token's query ``[rows, heads, 1, size]`` and the keys and values ``[rows, heads, L, size]`` of all."""
    if isinstance(qkv, nn.Linear):
        size = len(qkv.weight) // 3
        query, others = qkv.weight.tensor_split([size])
        of_query, of_others = (None, None) if qkv.bias is None else qkv.bias.tensor_split([size])
        q, kv = F.linear(x[:, :1], query, of_query), F.linear(x, others, of_others)
    else:  # quantised weights are packed, and cannot be split
        all_, *others_ = qkv(x).chunk(3, dim=-1)
        q, kv = all_[:, :1], torch.cat(others_, dim=-1)
    k, v = kv.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    return q.unflatten(-1, (heads, -1)).transpose(1, 2), k, v
