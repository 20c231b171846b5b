"""The view of a wrapped model with one number of rows per mixture: for threads, for export."""

from __future__ import annotations

from typing import Any

from torch import nn

from muxwrap._model.forwarding import class_for


class Fixed(nn.Module):
    """A wrapped model that always puts ``n`` rows into a mixture, whatever ``model.n`` is.

    Threads that serve the same model with different n take one view each.

    Args:
        model: the wrapped model; shared, not copied.
        n: one of ``model.sizes``.
    """

    def __new__(cls, model: Any, n: int) -> Fixed:
        """Make an instance of the subclass that has the backbone's forward signature, by which export names inputs."""
        return object.__new__(class_for(Fixed, type(model.backbone)))

    def __init__(self, model: Any, n: int) -> None:
        super().__init__()
        model.check_size(n, f"model.fixed({n!r})")
        self.model = model
        self.n = n
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with ``n`` rows per mixture."""
        return self.model.call_at(self.n, args, kwargs)
