"""The grouped view of a wrapped model, which has no row to pad and none to cut."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muxwrap.forwarding import class_for


class Grouped(nn.Module):
    """A wrapped model that takes and gives ``[groups, n, ...]`` instead of rows.

    ``torch.export`` can leave the number of groups free here. In the plain call it cannot: how many rows fill the last
    group depends on the batch.

    Args:
        model: the wrapped model; shared, not copied.
    """

    def __new__(cls, model: Any) -> Grouped:
        """Make an instance of the subclass that has the backbone's forward signature, by which export names inputs."""
        return object.__new__(class_for(Grouped, type(model.backbone)))

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model: every tensor among the arguments is ``[groups, n, ...]``, and so is every tensor returned."""
        flat = [_flatten(value) for value in args]
        output = self.model(*flat, **{key: _flatten(value) for key, value in kwargs.items()})
        return _unflatten(output, self.model.n)


def _flatten(value: Any) -> Any:
    return value.flatten(0, 1) if isinstance(value, Tensor) else value


def _unflatten(output: Any, n: int) -> Any:
    if isinstance(output, Tensor):
        return output.unflatten(0, (-1, n)) if output.ndim else output  # a loss has no rows
    if isinstance(output, dict):
        changed = {key: _unflatten(value, n) for key, value in output.items()}
        return changed if type(output) is dict else type(output)(**changed)
    return type(output)(_unflatten(value, n) for value in output) if isinstance(output, (tuple, list)) else output
