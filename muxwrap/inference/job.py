"""All that a worker needs to answer a part: what one process and many machines do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from muxwrap._util.examples import evaluating
from muxwrap.errors import MuxwrapError
from muxwrap.inference.answering import Answering
from muxwrap.inference.answers import Answer
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.mixtures import Mark, batches
from muxwrap.inference.plan import Part
from muxwrap.inference.rows import Row, missing
from muxwrap.inference.table import table, write


@dataclass
class Job:
    """Answers parts.

    Args:
        model: wrapped.
        encoder: makes its inputs.
        out: the folder of the answers.
        key: the column of the keys.
        group_by: the column whose values never share a mixture.
        batch: rows of a call.
        label: add the likeliest class.
    """

    model: Any
    encoder: Encoder
    out: Path
    key: str | None
    group_by: str | None
    batch: int
    label: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of a row, each column once."""
        named = (*self.encoder.columns, self.key, self.group_by)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def run(self, part: Part, tick: Callable[[], object] = lambda: None) -> int:
        """Answer a part, write it, and return how many rows it has.

        Raises:
            MuxwrapError: the input has changed, or the model answers no row of the part.
        """
        rows = part.read(self.columns)
        inputs = self._inputs(rows)
        answers: list[Answer | str] = [each if isinstance(each, str) else "" for each in inputs]
        answering = Answering(self.model, self.encoder, inputs, self.label)
        asked = []
        with evaluating(self.model), torch.no_grad():
            for mixtures in batches(self._marks(rows, inputs), self.model.n, self.batch):
                for row, answer in answering.answer(mixtures):
                    answers[row] = answer
                    asked.append(answer)
                    tick()
        for _ in range(len(rows) - len(asked)):
            tick()
        if asked and all(isinstance(answer, str) for answer in asked):
            raise MuxwrapError(
                f"predict({type(self.model).__name__}): none of {len(asked)} rows can be answered, beginning with "
                f"{rows[0].file.path}: {asked[0]}; see that the rows are made as in training"
            )
        write(table([str(row.key(self.key)) for row in rows], answers), self.out / part.name)
        return len(rows)

    def _inputs(self, rows: Sequence[Row]) -> list[Any]:
        """Return the model's inputs of every row, or what is wrong with it."""
        found: list[Any] = [self._wrong(row) for row in rows]
        good = [at for at, wrong in enumerate(found) if wrong is None]
        for at, inputs in zip(good, self.encoder.encode([rows[at] for at in good]), strict=True):
            wrong = None if isinstance(inputs, str) else self.encoder.problem(inputs, self.model)
            found[at] = wrong or inputs
        return found

    def _wrong(self, row: Row) -> str | None:
        if row.problem is None and self.group_by is not None and missing(row.values.get(self.group_by)):
            return f"no value in {self.group_by!r}, which tells the rows that may share a mixture"
        return row.problem

    def _marks(self, rows: Sequence[Row], inputs: Sequence[Any]) -> list[Mark]:
        return [
            Mark(
                at,
                self.encoder.shape(each),
                None if self.group_by is None else repr(rows[at].values[self.group_by]),
                self.encoder.length(each),
            )
            for at, each in enumerate(inputs)
            if not isinstance(each, str)
        ]
