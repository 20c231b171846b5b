"""Whose rows are, by ids of any kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError


def numbered(ids: Iterable[Any], call: str) -> Tensor:
    """Return the owners of rows as numbers from 0 on, in the order in which their ids come first: ``[B]``.

    Args:
        ids: one for each row: anything that can be a key of a dict; a tensor of numbers.
        call: what the user wrote; the message repeats it.

    Raises:
        MuxwrapError: these are no ids, or one cannot be a key.
    """
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    names: dict[Any, int] = {}
    try:
        if isinstance(values, (str, bytes)):
            raise TypeError(f"{values!r} is one value")
        owners = [names.setdefault(each, len(names)) for each in values]
    except TypeError as error:
        raise MuxwrapError(f"{call}: {error}; give one id for each row, such as a list of strings") from None
    return torch.tensor(owners, dtype=torch.long, device="cpu")
