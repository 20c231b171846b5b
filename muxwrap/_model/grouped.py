"""The grouped view of a wrapped model, which has no row to pad and none to cut."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from muxwrap._model.forwarding import class_for, shown
from muxwrap._util.nested import map_tensors


class Grouped(nn.Module):
    """A wrapped model that takes and gives ``[groups, n, ...]`` instead of rows.

    ``torch.export`` can leave the number of groups free here. In the plain call it cannot: how many rows fill the last
    group depends on the batch.

    Args:
        model: the wrapped model; shared, not copied.
    """

    def __new__(cls, model: Any) -> Grouped:
        """Make an instance of the subclass that has the backbone's forward signature, by which export names inputs."""
        return object.__new__(class_for(Grouped, shown(model.backbone)))

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model: every tensor among the arguments is ``[groups, n, ...]``, and so is every tensor returned."""
        n = self.model.n  # another thread may change it meanwhile
        args, kwargs = map_tensors((args, kwargs), _flatten)
        return map_tensors(self.model(*args, **kwargs), partial(_unflatten, n))


def _flatten(value: Tensor) -> Tensor:
    return value.flatten(0, 1) if value.ndim > 1 else value  # a number has no rows


def _unflatten(n: int, value: Tensor) -> Tensor:
    return value.unflatten(0, (-1, n)) if value.ndim else value  # a loss has no rows
