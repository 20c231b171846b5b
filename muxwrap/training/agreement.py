"""How often a student answers as its teacher does, on rows that it was not trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.examples import quiet, run
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.pairs import Pair, as_pair
from muxwrap.training.teaching import answers_of, counted_answers, mask_of


class Agreement:
    """Held-out batches, and what the teacher answers to them, computed once.

    For answers that are a choice between classes, agreement is the share of equal choices, over rows, or over tokens that
    count. For others (states, embeddings) it is the mean cosine between the rows' answers.

    Args:
        model: the student.
        teacher: bare.
        batches: read once.
        classes: whether answers are a choice between classes.
        autocast: makes a context in which the models are called.

    Raises:
        MuxwrapError: there is no batch.
    """

    def __init__(
        self, model: Multiplex, teacher: nn.Module, batches: Iterable[Any], classes: bool, autocast: Any
    ) -> None:
        self.model, self.classes, self.autocast = model, classes, autocast
        device = next(model.parameters()).device
        backbone = model.backbone
        self.batches: Sequence[Pair] = [as_pair(b, backbone, "distill(held_out=...)").to(device) for b in batches]
        if not self.batches:
            raise MuxwrapError("distill(held_out=...): there is no batch; give a list or a data loader with rows")
        self.wanted = [self._answer(teacher, batch)[0] for batch in self.batches]

    def measure(self) -> float:
        """Return the student's agreement, 0 to 1 (a cosine may be below), in evaluation mode."""
        sums = torch.zeros(2, dtype=torch.float64)
        for batch, wanted in zip(self.batches, self.wanted, strict=True):
            answer, counted = self._answer(self.model, batch)
            alike = (answer == wanted).double() if self.classes else F.cosine_similarity(answer, wanted, dim=1).double()
            alike = alike if counted is None else alike[counted]
            sums += torch.stack([alike.sum(), alike.new_tensor(alike.numel())]).cpu()
        return float(sums[0] / sums[1])

    def _answer(self, model: nn.Module, batch: Pair) -> tuple[Tensor, Tensor | None]:
        """Return classes ``[rows, ...]`` and which of them count, or rows ``[rows, features]``."""
        with quiet(model), self.autocast():
            logits = answers_of(run(model, batch.inputs))
        if not self.classes:
            return logits.float().flatten(1), None
        return logits.argmax(-1), counted_answers(logits, batch.labels, mask_of(batch.inputs))


def no_autocast() -> Any:
    """Return a context that changes nothing."""
    return contextlib.nullcontext()
