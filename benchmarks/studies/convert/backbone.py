"""The backbone: MiniLM as a plain PyTorch module, of which every model of the study is made.

The last layer computes the class token alone, which is all that the head reads: its query looks at the keys of all tokens, so
the answer is exact, at a part of the layer's work. Every model of the study has this, the teacher and the rivals too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12  # of BERT's norms


@dataclass(frozen=True)
class Sizes:
    """Of an encoder: word pieces, positions, features, heads, features between the two maps of a layer, layers."""

    vocabulary: int
    positions: int = 512
    dim: int = 384
    heads: int = 12
    inner: int = 1536
    layers: int = 6


class Embeddings(nn.Module):
    """Word pieces, positions and types, summed and normalised."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.word = nn.Embedding(sizes.vocabulary, sizes.dim)
        self.position = nn.Embedding(sizes.positions, sizes.dim)
        self.segment = nn.Embedding(2, sizes.dim)
        self.norm = nn.LayerNorm(sizes.dim, eps=EPS)

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        return self.norm(self.word(ids) + self.segment(types) + self.position.weight[: ids.shape[1]])


class Layer(nn.Module):
    """Attention and two linear maps, each added to its input and normalised after it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim)
        self.out = nn.Linear(sizes.dim, sizes.dim)
        self.norm = nn.LayerNorm(sizes.dim, eps=EPS)
        self.up = nn.Linear(sizes.dim, sizes.inner)
        self.down = nn.Linear(sizes.inner, sizes.dim)
        self.last_norm = nn.LayerNorm(sizes.dim, eps=EPS)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``[rows, L, dim]`` of the same; the mask is True at what is read, or is added to the scores."""
        q, k, v = self._heads(self.qkv(x)).chunk(3, dim=1)
        return self._rest(x, F.scaled_dot_product_attention(q, k, v, attn_mask=like(attention_mask, q)))

    def reading(self, x: Tensor, source: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``[rows, L, dim]`` of queries ``x`` ``[rows, L, dim]`` that read other tokens."""
        of_query, of_source = self.qkv.weight.tensor_split([x.shape[-1]])
        query, others = self.qkv.bias.tensor_split([x.shape[-1]])
        q = self._heads(F.linear(x, of_query, query))
        k, v = self._heads(F.linear(source, of_source, others)).chunk(2, dim=1)
        return self._rest(x, F.scaled_dot_product_attention(q, k, v, attn_mask=like(attention_mask, q)))

    def _heads(self, x: Tensor) -> Tensor:
        """Cut the features into heads of dim / heads: ``[rows, L, k · dim] -> [rows, k · heads, L, dim / heads]``."""
        return x.unflatten(-1, (-1, self.norm.normalized_shape[0] // self.heads)).transpose(1, 2)

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self.norm(x + self.out(attended.transpose(1, 2).flatten(2)))
        return self.last_norm(x + self.down(F.gelu(self.up(x))))


class ClassTokenLayer(Layer):
    """The last layer: the class token alone, ``[rows, L, dim] -> [rows, 1, dim]``."""

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.reading(x[:, :1], x, attention_mask)


class Head(nn.Module):
    """The classifier: ``[rows, dim]`` to logits and, beside them, the state itself."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, classes)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(torch.tanh(self.dense(state))), state


class Encoder(nn.Module):
    """Embeddings, layers and the head; returns logits ``[rows, classes]`` and the class token's last state.

    Args:
        sizes: of the encoder.
        classes: of the task.
    """

    def __init__(self, sizes: Sizes, classes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.embeddings = Embeddings(sizes)
        kinds = [Layer] * (sizes.layers - 1) + [ClassTokenLayer]
        self.layers = nn.ModuleList(kind(sizes) for kind in kinds)
        self.head = Head(sizes.dim, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embeddings(input_ids, token_type_ids)
        attention_mask = attention_mask[:, None, None].bool()
        for layer in self.layers:
            x = layer(x, attention_mask)
        return self.head(x[:, 0])


def like(mask: Tensor, q: Tensor) -> Tensor:
    """Return a mask as attention takes it: what is added to the scores has their dtype."""
    return mask.to(q.dtype) if mask.is_floating_point() else mask


def from_transformers(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the weights of a BERT of Transformers under the names that they have here; the head's classifier is new."""
    names = {"word": "word_embeddings", "position": "position_embeddings", "segment": "token_type_embeddings"}
    found = {f"embeddings.{to}.weight": weights[f"embeddings.{of}.weight"] for to, of in names.items()}
    norm, attention = "LayerNorm", "attention.self"
    modules = {"embeddings.norm": f"embeddings.{norm}", "head.dense": "pooler.dense"}
    for i in range(layers):
        old, new = f"encoder.layer.{i}", f"layers.{i}"
        modules |= {f"{new}.out": f"{old}.attention.output.dense", f"{new}.norm": f"{old}.attention.output.{norm}"}
        modules |= {f"{new}.up": f"{old}.intermediate.dense", f"{new}.down": f"{old}.output.dense"}
        modules |= {f"{new}.last_norm": f"{old}.output.{norm}"}
        for kind in ("weight", "bias"):
            parts = [weights[f"{old}.{attention}.{part}.{kind}"] for part in ("query", "key", "value")]
            found[f"{new}.qkv.{kind}"] = torch.cat(parts)
    found |= {f"{to}.{kind}": weights[f"{of}.{kind}"] for to, of in modules.items() for kind in ("weight", "bias")}
    return found
