"""Rows at several indices of a mixture: fewer rows per mixture than it has indices, down to an ensemble of one row.

A row that takes several indices gets an answer from each, and their mean is its answer. With all n indices for each row this
is MIMO's ensemble (Havasi et al., ICLR 2021, 2010.06610); between the two, MIMONets' dynamic inference (Menet et al., NeurIPS
2023, 2312.02829, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from muxwrap._util.nested import first_tensor, map_tensors, named_tensors
from muxwrap.errors import MuxwrapError, check_count


def sizes_of(n: Any) -> tuple[int, ...]:
    """Return how many rows a mixture may hold, the most last.

    Raises:
        MuxwrapError: a number is no count, or does not divide the largest.
    """
    if not isinstance(n, (tuple, list)):
        return (n,)  # checked with the other arguments of wrap
    if not n:
        raise MuxwrapError(
            f"n={n!r} is empty; give the numbers of rows that a mixture may hold, such as n=(1, 2, 4, 8)"
        )
    sizes = tuple(sorted({check_count(each) for each in n}))
    odd = [size for size in sizes if sizes[-1] % size]
    if odd:
        raise MuxwrapError(
            f"n={n!r}: {odd[0]} does not divide {sizes[-1]}, and every row takes as many indices as any other; give divisors "
            f"of {sizes[-1]}"
        )
    return sizes


def members(model: Callable[..., Any], copies: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the answers of all indices that a row takes, ``[copies, B, ...]``, in the model's own output type.

    What has no row per index (a loss; hidden states, which belong to mixtures) is left as it is.

    Args:
        model: called with every row ``copies`` times; n of such rows share a mixture.
        copies: indices per row.
        args: the call's, with B rows.
        kwargs: likewise.

    Raises:
        MuxwrapError: the arguments hold no tensor with rows.
    """
    rows = _rows(args, kwargs)
    args, named = map_tensors((args, dict(kwargs)), lambda x: _repeated(x, rows, copies))
    if named.get("num_items_in_batch") is not None:  # by which a Trainer's model divides the sum of its losses
        named["num_items_in_batch"] = named["num_items_in_batch"] * copies
    return map_tensors(model(*args, **named), lambda x: _by_copy(x, rows, copies))


def mean(model: Callable[..., Any], copies: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: str) -> Any:
    """Return the mean answer of all indices that a row takes, ``[B, ...]``, in the model's own output type.

    Raises:
        MuxwrapError: the arguments hold no tensor with rows, or an answer is not of a floating dtype; the message names
            ``call``.
    """
    if copies == 1:
        return model(*args, **kwargs)
    rows = _rows(args, kwargs)
    answers = members(model, copies, args, kwargs)
    for path, tensor in named_tensors(answers):
        if _has_copies(tensor, rows, copies) and not tensor.is_floating_point():
            raise MuxwrapError(
                f"{call}: output{path} is {tensor.dtype}, which has no mean over the {copies} indices that a row takes; use "
                "model.members, or leave it out of the output"
            )
    return map_tensors(answers, lambda x: x.mean(0) if _has_copies(x, rows, copies) else x)


def _rows(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    first = first_tensor((args, kwargs))
    if first is None:
        raise MuxwrapError("the arguments hold no tensor with rows, which could take several indices; give one")
    return first.shape[0]


def _repeated(x: Tensor, rows: int, copies: int) -> Tensor:
    """Put every row ``copies`` times, one after the other: consecutive rows share a mixture."""
    return x.unsqueeze(1).expand(-1, copies, *x.shape[1:]).flatten(0, 1) if x.shape[:1] == (rows,) else x


def _by_copy(x: Tensor, rows: int, copies: int) -> Tensor:
    return x.unflatten(0, (rows, copies)).transpose(0, 1) if x.shape[:1] == (rows * copies,) else x


def _has_copies(x: Tensor, rows: int, copies: int) -> bool:
    return x.shape[:2] == (copies, rows)
