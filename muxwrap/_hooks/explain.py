"""Why a call failed, in the caller's terms; asked only when it did."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.answers import bare_output
from muxwrap._hooks.call import Call, RowsAgainError
from muxwrap._hooks.embeddings import declared_embedding
from muxwrap._util.nested import first_tensor, named_tensors
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError

FAILURES = (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError, MuxwrapError)
"""What is raised for inputs of wrong sizes and values, by torch, Transformers and muxwrap's own modules."""


def explained(backbone: nn.Module, demuxer: Demuxer, args: Any, kwargs: Any) -> str | None:
    """Return what is wrong with the arguments of a call that failed, or None where no known mistake is found.

    Args:
        backbone: what was called.
        demuxer: of the wrapped model; its prefix makes sequences longer.
        args: positional arguments.
        kwargs: keyword arguments.
    """
    if torch.compiler.is_compiling():  # values are not known then
        return None
    try:
        arguments = inspect.signature(backbone.forward).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return None
    batch = first_tensor([value for value in arguments.values() if isinstance(value, Tensor)])
    name = next((name for name, value in arguments.items() if value is batch), None)
    if name is None or batch is None:
        return None
    if batch.numel() == 0:
        return f"{name} is {list(batch.shape)}: there is nothing to mix; give at least one row, and one token in it"
    labels = arguments.get("labels")
    problem = _labels(name, batch, labels, demuxer) if isinstance(labels, Tensor) and labels.ndim else None
    if problem is None and batch.ndim == 2 and not batch.is_floating_point():
        problem = _vocabulary(backbone, name, batch) or _positions(backbone, name, batch, demuxer)
    return problem


def of_mixtures(call: Call, args: Any, kwargs: Any, error: Exception) -> str | None:
    """Return what is wrong where a call fails that the bare model answers: its trunk runs on mixtures.

    Args:
        call: the call that failed.
        args: its positional arguments.
        kwargs: its keyword arguments.
        error: what was raised.
    """
    if (
        torch.compiler.is_compiling()
        or call.n == 1
        or not _count_rows(call)
        or isinstance(error, torch.OutOfMemoryError)
    ):
        return None
    named = inspect.signature(call.model.backbone.forward).bind_partial(*args, **kwargs).arguments
    if named.get("past_key_values") is not None or named.get("kwargs", {}).get("past_key_values") is not None:
        return (
            "past_key_values are given, what every row has seen before, and a mixture has seen nothing of it; call the model "
            "with the whole rows, and adapt it by tokens (prompt tuning) or layers (LoRA) instead of a prefix"
        )
    again = isinstance(error, RowsAgainError)
    if call.mixtures == 1 and not again:
        return _of_one_mixture(call, args, kwargs, error)
    if (isinstance(error, MuxwrapError) and not again) or bare_output(call, args, kwargs) is None:
        return None
    tensors = (pair for name, value in named.items() for pair in named_tensors(value, name))
    of_rows = [path for path, x in tensors if x.shape[:1] == (call.rows,)]
    said = str(error) if again else f"{type(error).__name__}: {error}"
    return (
        f"{said} (the bare model answers this call. Here {call.rows} rows make {call.mixtures} "
        f"mixtures of {call.n}, and something between the sites was given both. Of the rows are {', '.join(of_rows)}: what "
        "reaches the trunk besides what is mixed, such as a mask, has to be in the example_input= with which the model is "
        "wrapped; or name mux_at= and demux_at= so that it is read before rows are mixed or after they are separated"
        f"{_IN_TRAINING if call.model.training else ''})"
    )


def _count_rows(call: Call) -> bool:
    """Note how many rows a call has, if it failed before they were mixed and something else stood in for them."""
    if call.rows is None and call.stand_in is not None and call.batch is not None:
        call.rows = call.batch.shape[0]
    return call.rows is not None


_IN_TRAINING = (
    ". What runs in training only, such as noise or dropped paths, has to take the number of rows from the features that it is "
    "for, h.shape[0], and not from what the backbone was given"
)


def _of_one_mixture(call: Call, args: Any, kwargs: Any, error: Exception) -> str | None:
    if "more than 1 value per channel" not in str(error) and bare_output(call, args, kwargs) is None:
        return None
    rows = "1 row makes" if call.rows == 1 else f"{call.rows} rows make"
    return (
        f"{error} ({rows} one mixture of {call.n}, and the trunk runs on a batch of one, on which batch norm cannot be trained "
        f"and of which squeeze() takes the axis of rows away; give more than {call.n} rows, for example with drop_last=True in "
        "training, or write squeeze() with its axes)"
    )


def _labels(name: str, batch: Tensor, labels: Tensor, demuxer: Demuxer) -> str | None:
    if labels.shape[0] != batch.shape[0]:
        return f"labels are {list(labels.shape)} for {name} {list(batch.shape)}; every row needs its labels"
    if labels.ndim != 2 or batch.ndim != 2 or labels.is_floating_point():
        return None
    if labels.shape[1] != batch.shape[1]:
        return (
            f"labels are {list(labels.shape)} for {name} {list(batch.shape)}; every token needs a label (-100 for none)"
        )
    if demuxer.prefix_outputs:
        return (
            f"labels are {list(labels.shape)}, and the model answers for {demuxer.prefix_outputs} tokens of the prefix as "
            "well, as published; load it with keep_prefix=False"
        )
    return None


def _vocabulary(backbone: nn.Module, name: str, ids: Tensor) -> str | None:
    size = getattr(declared_embedding(backbone), "num_embeddings", None)
    if size is None:
        return None
    outside = (ids < 0) | (ids >= size)
    if not outside.any():
        return None
    row = int(outside.any(1).nonzero()[0])
    return (
        f"{name} holds {int(ids[outside][0])} in row {row}; the vocabulary has the ids 0 to {size - 1}: is it another "
        "tokenizer's?"
    )


def _positions(backbone: nn.Module, name: str, ids: Tensor, demuxer: Demuxer) -> str | None:
    limit = getattr(getattr(backbone, "config", None), "max_position_embeddings", None)
    if not isinstance(limit, int):
        return None
    for path, module in backbone.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limit = module.num_embeddings - module.padding_idx - 1  # RoBERTa counts positions after that of the padding
    own, added = ids.shape[1], demuxer.tokens_added
    if own > limit:
        return f"{name} holds {own} tokens, and the model has positions for {limit}; cut them"
    if own + added > limit:
        return (
            f"{name} holds {own} tokens and a prefix of {added} makes them {own + added}, and the model has positions for "
            f"{limit}; cut them to {limit - added}, or take a demuxer without a prefix ('key', 'mlp')"
        )
    return None
