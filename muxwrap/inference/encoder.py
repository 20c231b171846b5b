"""What makes inputs of a model from rows of files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

from torch import nn

from muxwrap.inference.rows import Row


class Encoder(ABC):
    """Makes a model's inputs from rows; :class:`Texts` and :class:`Images` are the two that there are.

    It is pickled for workers on other machines. The same row has to give the same inputs each time.
    """

    columns: tuple[str, ...]
    """Which values of a row are read."""

    rows_per_part: int
    """By default; as many rows are held in memory at once."""

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> list[Any]:
        """Return the inputs of every row, or a text that says why it has none."""

    @abstractmethod
    def collate(self, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the model's call for several rows."""

    def check(self, model: nn.Module) -> None:  # noqa: B027 - most have nothing to check
        """Refuse a model that cannot be called with these inputs."""

    def problem(self, inputs: Any, model: nn.Module) -> str | None:
        """Return why a model cannot take a row's inputs, or None; for what would harm the rows beside it."""
        return None

    def shape(self, inputs: Any) -> Hashable:
        """Return what rows have to share to be in one batch."""
        return None

    def length(self, inputs: Any) -> int:
        """Return how long a row is; rows of like length share mixtures."""
        return 0

    def shortened(self, inputs: Any, length: int) -> Any:
        """Return a row's inputs with another length, or None where rows have none."""
        return None
