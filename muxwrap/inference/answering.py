"""Calling the model for batches of mixtures so that a row that fails harms no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.nested import map_tensors
from muxwrap.inference.answers import Answer, answers_in, classes_in, finite, labelled
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.mixtures import Mixture

FATAL: tuple[type[Exception], ...] = (
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
)
"""Errors that are not those of a row: there is too little memory, or the device is lost."""


class Answering:
    """Answers the rows of a part.

    Args:
        model: wrapped, in evaluation mode.
        encoder: of the inputs.
        inputs: of the rows by their numbers.
        label: add the likeliest class.
    """

    def __init__(self, model: Any, encoder: Encoder, inputs: Sequence[Any], label: bool) -> None:
        self.model, self.encoder, self.inputs, self.label = model, encoder, inputs, label
        weights = [each for each in model.parameters() if each.is_floating_point()]
        self.device = weights[0].device if weights else torch.device("cpu")
        self.dtype = weights[0].dtype if weights else torch.float32
        self._found: frozenset[str] | None = None
        self.error = ""

    def answer(self, mixtures: Sequence[Mixture]) -> Iterator[tuple[int, Answer | str]]:
        """Yield every own row of the mixtures with its answer, or with what is wrong.

        Where the call fails or answers with NaN, the mixtures are called one by one, and the rows of a mixture that fails then
        each alone, in a mixture of itself.
        """
        whole = self._try([row for mixture in mixtures for row in mixture.rows])
        for at, mixture in enumerate(mixtures):
            size = len(mixture.rows)
            found = whole[at * size : (at + 1) * size] if whole else self._try(mixture.rows)
            good = bool(found) and None not in found
            for number, row in enumerate(mixture.rows[: mixture.own]):
                yield row, found[number] if good else self._alone(row, size)  # type: ignore[misc]

    def _alone(self, row: int, n: int) -> Answer | str:
        self.error = "the answer has NaN or infinity"
        found = self._try([row] * n)
        return self.error if not found or found[0] is None else found[0]

    def _try(self, rows: Sequence[int]) -> list[Answer | None]:
        """Return the rows' answers, None for one with NaN; nothing where the call fails."""
        try:
            return self._call(rows)
        except FATAL:
            raise
        except Exception as error:
            self.error = f"the model refuses it: {type(error).__name__}: {error}"
            return []

    def _call(self, rows: Sequence[int]) -> list[Answer | None]:
        inputs = [self.inputs[row] for row in rows]
        found = self._output(inputs)
        if not found:
            raise ValueError("the model's output holds no tensor with a row per row")
        good = finite(found, len(rows)).tolist()
        lengthwise = self._lengthwise(inputs[0], len(rows))
        columns: dict[str, Any] = {name: tensor.numpy() for name, tensor in found.items()}
        if self.label:
            source = classes_in(found)
            names = getattr(getattr(self.model, "config", None), "id2label", None)
            made = labelled(found[source], names)
            columns |= {name: each.numpy() if isinstance(each, Tensor) else each for name, each in made.items()}
            lengthwise = lengthwise | (made.keys() if source in lengthwise and found[source].ndim > 2 else set())
        lengths = [self.encoder.length(each) for each in inputs]
        return [
            {name: each[at][: lengths[at]] if name in lengthwise else each[at] for name, each in columns.items()}
            if good[at]
            else None
            for at in range(len(rows))
        ]

    def _lengthwise(self, inputs: Any, rows: int) -> frozenset[str]:
        """Return which answers are as long as their row: those that follow when a row is made a token shorter or longer."""
        if self._found is None:
            length = self.encoder.length(inputs)
            lengths = (length, length - 1) if length > 1 else (1, 2)
            made = [self.encoder.shortened(inputs, each) for each in lengths]
            if made[0] is None:
                self._found = frozenset()
            else:
                a, b = (self._output([each] * rows) for each in made)
                sizes = {name: (a[name].shape[1:2], b[name].shape[1:2]) for name in a.keys() & b.keys()}
                wanted = tuple((each,) for each in lengths)
                self._found = frozenset(name for name, found in sizes.items() if found == wanted)
        return self._found

    def _output(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        args, kwargs = map_tensors(self.encoder.collate(inputs), self._placed)
        return answers_in(self.model(*args, **kwargs), len(inputs))

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype) if x.is_floating_point() else x.to(self.device)
