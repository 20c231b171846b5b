"""How the tensors of a wrapped model are made of those of a published checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.published.config import MuxConfig


class Rule(NamedTuple):
    """How one tensor of the wrapped model is made: its name, the published names it is made of, and the function."""

    target: str
    sources: tuple[str, ...]
    make: Callable[..., Tensor] = lambda tensor: tensor


def rules(config: MuxConfig) -> list[Rule]:
    """Return what the strategy, the demuxer and the head are made of; the base model keeps its names."""
    return [*_strategy(config), *_demuxer(config), *_head(config)]


def _layer(target: str, source: str, kinds: tuple[str, ...] = ("weight", "bias")) -> list[Rule]:
    return [Rule(f"{target}.{kind}", (f"{source}.{kind}",)) for kind in kinds]


# -- the strategy -----------------------------------------------------------------------------------------------------


def _strategy(config: MuxConfig) -> list[Rule]:
    keys = ("instance_embedding",)
    if config.muxing == "random_ortho_low_rank" and not config.learn:
        return [Rule("strategy.left", keys, _left), Rule("strategy.right", keys, _right)]
    if config.muxing.startswith("random_ortho"):
        return [
            Rule("strategy.keys", keys, lambda matrices: matrices.transpose(1, 2))
        ]  # published: a token is a column
    own = [Rule("strategy.keys", keys)]
    if config.muxing == "gaussian_attention_v2":
        own += _bert_layer("strategy.within", "muxing_attention") + _bert_layer("strategy.across", "muxing_attention_2")
    return own


def _bert_layer(target: str, source: str) -> list[Rule]:
    """Return a layer of BERT as an ``nn.TransformerEncoderLayer``."""
    attention = tuple(f"{source}.attention.self.{name}" for name in ("query", "key", "value"))
    joined = [
        Rule(f"{target}.self_attn.in_proj_{kind}", tuple(f"{name}.{kind}" for name in attention), _joined)
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


def _joined(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


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
            f"instance_embedding is not a set of projections of rank {rank}, as 'random_ortho_low_rank' needs; give the config "
            "that it was saved with"
        )
    return u[..., :rank].to(matrices.dtype), vh[:, :rank].transpose(1, 2).to(matrices.dtype)


# -- the demuxer and the head -----------------------------------------------------------------------------------------


def _demuxer(config: MuxConfig) -> list[Rule]:
    own = "demuxers.0"
    if config.demuxing == "index":
        return [*_layer(f"{own}.join", "demultiplexer.dense"), *_layer(f"{own}.norm", "demultiplexer.layer_norm")]
    if config.demuxing == "mlp":
        inner = "demultiplexer.demux_module"
        return [
            Rule(f"{own}.{to}", tuple(f"{inner}.{name}_{i}.{kind}" for i in range(config.n)), _stacked)
            for to, name, kind in (
                ("weight", "dense", "weight"),
                ("bias", "dense", "bias"),
                ("norm_weight", "layer_norm", "weight"),
                ("norm_bias", "layer_norm", "bias"),
            )
        ]
    # The last of the shared layers is the retrieval head's alone.
    residuals = [f"demux_module.dense_{k}" for k in range(2, config.layers)] + ["demultiplexer.pre_decoder"]
    return [
        Rule(f"{own}.keys", ("demux_module.demux_instance_embedding",)),
        Rule(f"{own}.join.weight", ("demux_module.dense_1.weight",), _swapped),
        Rule(f"{own}.join.bias", ("demux_module.dense_1.bias",)),
        *(rule for k, name in enumerate(residuals) for rule in _layer(f"{own}.blocks.{k}", name)),
        *_layer(f"{own}.norm", "demultiplexer.pre_decoder_layer_norm"),
    ]


def _stacked(*tensors: Tensor) -> Tensor:
    return torch.stack(tensors)


def _swapped(weight: Tensor) -> Tensor:
    """Turn W_k | W_h into W_h | W_k."""
    return torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)


def _head(config: MuxConfig) -> list[Rule]:
    own = "backbone.classifier"
    if config.family == "bert":
        return _layer(own, "classifier")
    if config.demuxing == "index" and config.task == "token":
        return _layer(own, "demultiplexer.decoder")
    norm = _layer(f"{own}.norm", "demultiplexer.layernorm_presoftmax") if config.demuxing == "mlp" else []
    last = _layer(f"{own}.out_proj", "demultiplexer.out_proj")
    return [*_layer(f"{own}.dense", "demultiplexer.dense_before_out_proj"), *norm, *last]
