"""A pass of the model for rows that are placed already, and what becomes of rows that spoil it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.nested import map_tensors
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.serving.inputs import Collate, Row
from muxwrap.serving.requests import RequestError

logger = logging.getLogger(__name__)

_BY_TOKEN = {"": 3, "logits": 3, "last_hidden_state": 3, "start_logits": 2, "end_logits": 2}
"""Answers with an axis of tokens, and their axes then; what padding got is cut off."""


class Passes:
    """Runs the model, in evaluation mode and without gradients.

    A row that the model has no finite answer to, or that it fails on, spoils its mixture. The rows of a spoiled mixture are
    run again, each in a mixture of its own, so that only the row itself gets an error.

    Args:
        model: a wrapped model, or a bare one, which is served with n=1.
        collate: rows to the arguments of its call.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, collate: Collate, device: str | torch.device = "cpu") -> None:
        self.model, self.collate, self.device = model.to(device).eval(), collate, torch.device(device)
        floating = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.dtype = floating[0] if floating else torch.float32

    def __call__(self, mixtures: Sequence[Sequence[Row]], n: int) -> list[list[Any]]:
        """Answer rows by mixture. A mixture that is not full is filled with its own rows, one after the other.

        Returns:
            For each row what the model answers, as JSON's types, or a :class:`~muxwrap.serving.requests.RequestError`.
        """
        answers = self._pass(mixtures, n)
        if sum(map(len, mixtures)) == 1:
            return answers
        for mixture, own in zip(mixtures, answers, strict=True):
            if any(isinstance(answer, RequestError) for answer in own):
                own[:] = [self._pass([[row]], n)[0][0] for row in mixture]
        return answers

    def try_largest(self, row: Row, mixtures: int, n: int) -> None:
        """Run a pass that is as large as any.

        Raises:
            MuxwrapError: it fails, and a group with such a row would.
        """
        try:
            self._outputs([row] * (mixtures * n), n)
        except Exception as error:
            sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in row.items())
            raise MuxwrapError(
                f"server: the model fails on a row as large as is allowed ({sizes}): {type(error).__name__}: {error}; allow "
                "less (max_length= of text), or give the inputs that it was trained with"
            ) from error

    def _pass(self, mixtures: Sequence[Sequence[Row]], n: int) -> list[list[Any]]:
        try:
            outputs, length = self._outputs([mixture[k % len(mixture)] for mixture in mixtures for k in range(n)], n)
        except Exception:
            logger.exception("a pass of %s rows at n=%s failed", sum(map(len, mixtures)), n)
            return [[RequestError(500, "the model fails on this input") for _ in mixture] for mixture in mixtures]
        return [
            [_answer(outputs, j * n + k, row, length) for k, row in enumerate(mixture)]
            for j, mixture in enumerate(mixtures)
        ]

    @torch.inference_mode()
    def _outputs(self, rows: list[Row], n: int) -> tuple[dict[str, Tensor], int | None]:
        args, kwargs = map_tensors(self.collate(rows), self._placed)
        model = self.model.fixed(n) if isinstance(self.model, Multiplex) else self.model
        found = {
            name: value.cpu()
            for name, value in _named(model(*args, **kwargs)).items()
            if value.shape[:1] == (len(rows),)
        }
        if not found:
            raise MuxwrapError(
                "the model returns no tensor with the batch's rows, so no row has an answer; serve one that does"
            )
        length = kwargs["input_ids"].shape[1] if "input_ids" in kwargs else None
        return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}, length

    def _placed(self, value: Tensor) -> Tensor:
        return value.to(self.device, self.dtype if value.is_floating_point() else None)


def _named(output: Any) -> dict[str, Tensor]:
    """Return the tensors of an output by name; what lies deeper (hidden states) belongs to mixtures."""
    if isinstance(output, Tensor):
        return {"": output}
    items = output.items() if isinstance(output, Mapping) else enumerate(output)
    return {str(name): value for name, value in items if isinstance(value, Tensor)}


def _answer(outputs: Mapping[str, Tensor], place: int, row: Row, length: int | None) -> Any:
    """Return a row's answer, ``output`` alone where the model returns a tensor."""
    own = {name: value[place] for name, value in outputs.items()}
    if not all(value.isfinite().all() for value in own.values()):
        return RequestError(422, "the model has no finite answer to this input; send another one")
    if length is not None:
        tokens = len(row["input_ids"])
        own = {
            name: value[:tokens] if value.ndim + 1 == _BY_TOKEN.get(name) and len(value) == length else value
            for name, value in own.items()
        }
    lists = {name: value.tolist() for name, value in own.items()}
    return lists.get("", lists)
