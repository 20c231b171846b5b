"""The weights of an encoder layer, read from torch's and Hugging Face's modules alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from muxwrap.errors import MuxwrapError

Affine = tuple[Tensor, Tensor | None]  # weight [out, in] and bias [out]


@dataclass(frozen=True)
class Attention:
    """Weights of a self-attention: ``query``, ``key``, ``value`` and ``out``, and the number of heads."""

    query: Affine
    key: Affine
    value: Affine
    out: Affine
    heads: int


@dataclass(frozen=True)
class Layer:
    """Weights of an encoder layer: attention, feed-forward ``down(activation(up(x)))``, norms and their order."""

    attention: Attention
    up: Affine
    down: Affine
    activation: Callable[[Tensor], Tensor]
    norms: tuple[nn.Module, nn.Module]
    norm_first: bool


def layers_of(encoder: nn.Module) -> tuple[list[Layer], nn.Module | None]:
    """Return the layers of an encoder, and the norm after the last of them where there is one.

    Args:
        encoder: ``nn.TransformerEncoderLayer``, ``nn.TransformerEncoder``, or a Hugging Face model, encoder or layer
            built like BERT's (``attention.self``, ``attention.output``, ``intermediate``, ``output``).

    Raises:
        MuxwrapError: another kind of module, or a decoder, which makes its mask by itself.
    """
    if getattr(getattr(encoder, "config", None), "is_decoder", False):
        raise MuxwrapError(
            f"{type(encoder).__name__} has is_decoder=True and masks the future by itself; make it with is_decoder=False, "
            "and give the multiplexed encoder a mask [g, n, L, L]"
        )
    if isinstance(encoder, nn.TransformerEncoder):
        return [_torch_layer(layer) for layer in encoder.layers], encoder.norm
    if isinstance(encoder, nn.TransformerEncoderLayer):
        return [_torch_layer(encoder)], None
    trunk: Any = getattr(encoder, "encoder", encoder)
    layers = list(getattr(trunk, "layer", [trunk]))
    if layers and all(_is_bert_layer(layer) for layer in layers):
        return [_bert_layer(layer) for layer in layers], None
    raise MuxwrapError(
        f"{type(encoder).__name__} is not an encoder that can be multiplexed exactly; give an nn.TransformerEncoder, an "
        "nn.TransformerEncoderLayer, or a Hugging Face BertModel"
    )


def attention_of(attention: nn.MultiheadAttention) -> Attention:
    """Return the weights of torch's attention.

    Raises:
        MuxwrapError: keys or values of another width, extra keys, or another module.
    """
    if not isinstance(attention, nn.MultiheadAttention):
        raise MuxwrapError(f"{type(attention).__name__} is not an nn.MultiheadAttention; give one")
    if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
        raise MuxwrapError(
            "nn.MultiheadAttention with kdim, vdim, add_bias_kv or add_zero_attn is not a plain self-attention; make it without"
        )
    weights = attention.in_proj_weight.chunk(3)
    biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    query, key, value = zip(weights, biases, strict=True)
    return Attention(query, key, value, _affine(attention.out_proj), attention.num_heads)


def _torch_layer(layer: Any) -> Layer:
    return Layer(
        attention=attention_of(layer.self_attn),
        up=_affine(layer.linear1),
        down=_affine(layer.linear2),
        activation=layer.activation,
        norms=(layer.norm1, layer.norm2),
        norm_first=layer.norm_first,
    )


def _is_bert_layer(layer: Any) -> bool:
    names = ("attention.self.query", "attention.output.LayerNorm", "intermediate.dense", "output.LayerNorm")
    modules = dict(layer.named_modules())
    return all(name in modules for name in names) and not hasattr(layer, "crossattention")


def _bert_layer(layer: Any) -> Layer:
    own, back = layer.attention.self, layer.attention.output
    return Layer(
        attention=Attention(
            _affine(own.query), _affine(own.key), _affine(own.value), _affine(back.dense), own.num_attention_heads
        ),
        up=_affine(layer.intermediate.dense),
        down=_affine(layer.output.dense),
        activation=layer.intermediate.intermediate_act_fn,
        norms=(back.LayerNorm, layer.output.LayerNorm),
        norm_first=False,
    )


def _affine(linear: Any) -> Affine:
    return linear.weight, linear.bias
