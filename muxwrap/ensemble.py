"""One network as an ensemble: every row takes all n indices of a mixture, and each index gives an answer (MIMO).

Source: Havasi et al., "Training independent subnetworks for robust prediction", ICLR 2021 (2010.06610).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from muxwrap._util.nested import first_tensor, map_tensors, named_tensors
from muxwrap.errors import MuxwrapError


def members(model: Callable[..., Any], n: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the answers of all n indices, ``[n, B, ...]``, in the model's own output type.

    What has no row per index (a loss; hidden states, which belong to mixtures) is left as it is.

    Raises:
        MuxwrapError: the arguments hold no tensor with rows.
    """
    rows = _rows(args, kwargs)
    args, kwargs = map_tensors((args, dict(kwargs)), lambda x: _repeated(x, rows, n))
    return map_tensors(model(*args, **kwargs), lambda x: _by_index(x, rows, n))


def mean(model: Callable[..., Any], n: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the mean answer of all n indices, ``[B, ...]``, in the model's own output type.

    Raises:
        MuxwrapError: the arguments hold no tensor with rows, or an answer is not of a floating dtype.
    """
    rows = _rows(args, kwargs)
    answers = members(model, n, args, kwargs)
    for path, tensor in named_tensors(answers):
        if _is_of_indices(tensor, rows, n) and not tensor.is_floating_point():
            raise MuxwrapError(
                f"model.ensemble(...): output{path} is {tensor.dtype}, which has no mean; use model.members"
            )
    return map_tensors(answers, lambda x: x.mean(0) if _is_of_indices(x, rows, n) else x)


def _rows(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    first = first_tensor((args, kwargs))
    if first is None:
        raise MuxwrapError("model.ensemble(...): the arguments hold no tensor with rows")
    return first.shape[0]


def _repeated(x: Tensor, rows: int, n: int) -> Tensor:
    """Put every row n times, one after the other: consecutive rows share a mixture."""
    return x.unsqueeze(1).expand(-1, n, *x.shape[1:]).flatten(0, 1) if x.shape[:1] == (rows,) else x


def _by_index(x: Tensor, rows: int, n: int) -> Tensor:
    return x.unflatten(0, (rows, n)).transpose(0, 1) if x.shape[:1] == (rows * n,) else x


def _is_of_indices(x: Tensor, rows: int, n: int) -> bool:
    return x.shape[:2] == (n, rows)
