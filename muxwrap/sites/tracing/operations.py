"""The operations of a run, counted while it runs: multiplications and additions of products; the rest hardly counts."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from muxwrap._util.nested import tensors_in

Formula = Callable[[Any, Any], int]  # of the arguments and of what came out


class OperationCounter(TorchDispatchMode):
    """Counts what runs inside of it.

    Products and convolutions are counted by torch's own formulas, attention, recurrent layers and quantised products, for
    which it has none on every device, by those below. Whatever else makes numbers (norms, activations, sums) counts next to
    nothing, so that it decides only in models without products: a trunk of it alone is not worth mixing for.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and isinstance(func, torch._ops.OpOverload):
            with self:  # operations that are made of others arrive whole in this mode
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.count += _operations(func, args, kwargs, out)
        return out


OTHERS = 1e-3
"""What one number counts that is not of a product."""


def _operations(func: Any, args: Any, kwargs: Any, out: Any) -> float:
    if getattr(func, "is_view", False):
        return 0
    floor = OTHERS * sum(tensor.numel() for tensor in tensors_in(out))
    formula = flop_registry.get(getattr(func, "overloadpacket", func))
    try:
        if formula is not None:
            return max(floor, int(formula(*args, **kwargs, out_val=out)))
        name = str(func)
        own = next((own for part, own in _FORMULAS.items() if part in name), None)
        return floor if own is None else max(floor, own(list(tensors_in((args, kwargs))), list(tensors_in(out))))
    except (AssertionError, AttributeError, IndexError, TypeError, ValueError):
        return floor  # a variant that the formula does not know


def _attention(given: list[Tensor], _out: list[Tensor]) -> int:
    """``softmax(q kᵀ) v`` of ``[..., heads, length, dim]``."""
    query, key, value = given[:3]
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return 2 * scores * (query.shape[-1] + value.shape[-1])


def _weights(given: list[Tensor], _out: list[Tensor]) -> int:
    """Every position of the input times every weight matrix: recurrent layers, encoder layers in one operation."""
    first, *others = given
    return 2 * prod(first.shape[:-1]) * sum(tensor.numel() for tensor in others if tensor.ndim == 2)


def _product(given: list[Tensor], out: list[Tensor]) -> int:
    """A product with packed weights, of which only the sizes of the input and the output are known."""
    return 2 * given[0].numel() * out[0].shape[-1]


_FORMULAS: dict[str, Formula] = {
    "_scaled_dot_product": _attention,
    "lstm": _weights,
    "gru": _weights,
    "rnn": _weights,
    "_native_multi_head_attention": _weights,
    "_transformer_encoder_layer": _weights,
    "linear": _product,
    "mm": _product,
}
"""By a part of the operation's name: backends have operations of their own, such as ``mkldnn_rnn_layer``."""
