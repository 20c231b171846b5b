"""From the tensors of a published checkpoint to those of a wrapped model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.published.facts import Facts

UNREAD = ("retrieval_head.", "demux_module.", "demultiplexer.", "bert.", "roberta.", "cls.", "dropout.")
"""Where a checkpoint may have more than is read: the retrieval head, its layer of the demuxer, an unused pooler."""


class Row(NamedTuple):
    """One tensor of the wrapped model: its name, the published names it is made of, and how."""

    target: str
    sources: tuple[str, ...]
    make: Callable[..., Tensor] = lambda tensor: tensor


def rows(facts: Facts) -> list[Row]:
    """Return what the strategy, the demuxer and the head are made of; the base model keeps its names."""
    return [*_strategy(facts), *_demuxer(facts), *_head(facts)]


def translated(tensors: dict[str, Tensor], facts: Facts) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names of the wrapped model.

    Raises:
        MuxwrapError: one is missing, or there is one that belongs to no published model.
    """
    wanted = rows(facts)
    missing = [name for row in wanted for name in row.sources if name not in tensors]
    base = facts.family + "."
    if not any(name.startswith(base) for name in tensors):
        missing.append(base + "*")
    if missing:
        raise MuxwrapError(
            f"the weights lack {_shown(missing)} of a {facts.task} model with {facts.demuxing!r} demuxing"
        )
    used = {name for row in wanted for name in row.sources}
    unknown = [name for name in tensors if name not in used and not name.startswith(UNREAD)]
    if unknown:
        raise MuxwrapError(
            f"the weights hold {_shown(unknown)}, which no {facts.task} model with muxing {facts.muxing!r} and demuxing "
            f"{facts.demuxing!r} has; the config belongs to another checkpoint"
        )
    keys, matrices = tensors["instance_embedding"], facts.muxing.startswith("random_ortho")
    if keys.ndim != 2 + matrices:
        kind = "matrix" if matrices else "vector"
        raise MuxwrapError(
            f"instance_embedding is {list(keys.shape)}, and {facts.muxing!r} has a {kind} for every instance"
        )
    made = {row.target: row.make(*(tensors[name] for name in row.sources)).contiguous() for row in wanted}
    return made | {f"backbone.{name}": value for name, value in tensors.items() if name.startswith(base)}


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(repr, names[:4])) + more


def _layer(target: str, source: str, kinds: tuple[str, ...] = ("weight", "bias")) -> list[Row]:
    return [Row(f"{target}.{kind}", (f"{source}.{kind}",)) for kind in kinds]


# -- the strategy -----------------------------------------------------------------------------------------------------


def _strategy(facts: Facts) -> list[Row]:
    keys = ("instance_embedding",)
    if facts.muxing == "random_ortho_low_rank" and not facts.learn:
        return [Row("strategy.left", keys, _left), Row("strategy.right", keys, _right)]
    if facts.muxing.startswith("random_ortho"):
        return [Row("strategy.keys", keys, lambda matrices: matrices.transpose(1, 2))]  # published: a token is a column
    own = [Row("strategy.keys", keys)]
    if facts.muxing == "gaussian_attention_v2":
        own += _bert_layer("strategy.within", "muxing_attention") + _bert_layer("strategy.across", "muxing_attention_2")
    return own


def _bert_layer(target: str, source: str) -> list[Row]:
    """Return a layer of BERT as an ``nn.TransformerEncoderLayer``."""
    attention = tuple(f"{source}.attention.self.{part}" for part in ("query", "key", "value"))
    joined = [
        Row(f"{target}.self_attn.in_proj_{kind}", tuple(f"{part}.{kind}" for part in attention), _joined)
        for kind in ("weight", "bias")
    ]
    return [
        *joined,
        *_layer(f"{target}.self_attn.out_proj", f"{source}.attention.output.dense"),
        *_layer(f"{target}.norm1", f"{source}.attention.output.LayerNorm"),
        *_layer(f"{target}.linear1", f"{source}.intermediate.dense"),
        *_layer(f"{target}.linear2", f"{source}.output.dense"),
        *_layer(f"{target}.norm2", f"{source}.output.LayerNorm"),
    ]


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts)


def _left(matrices: Tensor) -> Tensor:
    return _factors(matrices)[0]


def _right(matrices: Tensor) -> Tensor:
    return _factors(matrices)[1]


def _factors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Split G_i = U_i H_iᵀ ``[n, d, d]``, all of whose singular values are 0 or 1, into two ``[n, d, d // n]``.

    Raises:
        MuxwrapError: the matrices are of another form.
    """
    n, dim, _ = matrices.shape
    u, s, vh = torch.linalg.svd(matrices.double())
    rank = dim // n
    if not torch.allclose(s, (torch.arange(dim) < rank).double().expand_as(s), atol=1e-3):
        raise MuxwrapError(
            f"instance_embedding is no set of projections of rank {rank}, as 'random_ortho_low_rank' needs"
        )
    return u[..., :rank].to(matrices.dtype), vh[:, :rank].transpose(1, 2).to(matrices.dtype)


# -- the demuxer and the head -----------------------------------------------------------------------------------------


def _demuxer(facts: Facts) -> list[Row]:
    own = "demuxers.0"
    if facts.demuxing == "index":
        return [*_layer(f"{own}.join", "demultiplexer.dense"), *_layer(f"{own}.norm", "demultiplexer.layer_norm")]
    if facts.demuxing == "mlp":
        inner = "demultiplexer.demux_module"
        return [
            Row(f"{own}.{to}", tuple(f"{inner}.{name}_{i}.{kind}" for i in range(facts.n)), _stacked)
            for to, name, kind in (
                ("weight", "dense", "weight"),
                ("bias", "dense", "bias"),
                ("norm_weight", "layer_norm", "weight"),
                ("norm_bias", "layer_norm", "bias"),
            )
        ]
    # The last of the shared layers is the retrieval head's alone.
    blocks = [f"demux_module.dense_{k}" for k in range(2, facts.layers)] + ["demultiplexer.pre_decoder"]
    return [
        Row(f"{own}.keys", ("demux_module.demux_instance_embedding",)),
        Row(f"{own}.join.weight", ("demux_module.dense_1.weight",), _swapped),
        Row(f"{own}.join.bias", ("demux_module.dense_1.bias",)),
        *(row for k, name in enumerate(blocks) for row in _layer(f"{own}.blocks.{k}", name)),
        *_layer(f"{own}.norm", "demultiplexer.pre_decoder_layer_norm"),
    ]


def _stacked(*parts: Tensor) -> Tensor:
    return torch.stack(parts)


def _swapped(weight: Tensor) -> Tensor:
    """Turn W_k | W_h into W_h | W_k."""
    return torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)


def _head(facts: Facts) -> list[Row]:
    own = "backbone.classifier"
    if facts.family == "bert":
        return _layer(own, "classifier")
    if facts.demuxing == "index" and facts.task == "token":
        return _layer(own, "demultiplexer.decoder")
    norm = _layer(f"{own}.norm", "demultiplexer.layernorm_presoftmax") if facts.demuxing == "mlp" else []
    last = _layer(f"{own}.out_proj", "demultiplexer.out_proj")
    return [*_layer(f"{own}.dense", "demultiplexer.dense_before_out_proj"), *norm, *last]
