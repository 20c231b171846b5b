"""What a student learns from its teacher: the answers, the states before its head, and those of its trunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.examples import evaluating
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.distillation import distillation
from muxwrap.training.teaching_states import (
    check_places,
    check_seen,
    demux_place,
    layer_places,
    layers_apart,
    seen_at,
    states_apart,
)

IGNORED = -100  # PyTorch's label of what does not count


@dataclass(frozen=True)
class Coefficients:
    """Of the parts of the loss.

    Args:
        task: of the labels.
        distillation: of the teacher's answers.
        states: of the states behind the demuxer.
        layers: of the states of the layers that run on mixtures.
        temperature: of the answers.
    """

    task: float
    distillation: float
    states: float
    layers: float
    temperature: float

    def check(self, call: str) -> None:
        """Refuse what is no loss.

        Raises:
            MuxwrapError: a coefficient is below 0, or all are 0.
        """
        for name in ("task", "distillation", "states", "layers"):
            if not getattr(self, name) >= 0:
                raise MuxwrapError(
                    f"{call}({name}={getattr(self, name)!r}): it is a coefficient of the loss, 0 or more"
                )
        if not self.distillation + self.states + self.layers:
            raise MuxwrapError(f"{call}(): distillation, states and layers are all 0, so there is nothing to teach")
        if not self.temperature > 0:
            raise MuxwrapError(f"{call}(temperature={self.temperature!r}): it has to be above 0")


class Teaching:
    """A student, its teacher, and what is compared of their calls.

    Args:
        model: the student.
        teacher: of the same inputs.
        coefficients: of the parts.
        call: the function that the user called; messages repeat it.

    Raises:
        MuxwrapError: the teacher has not the modules whose states are to be compared, or a coefficient is bad.
    """

    def __init__(self, model: Multiplex, teacher: nn.Module, coefficients: Coefficients, call: str) -> None:
        coefficients.check(call)
        self._call = call
        self.model, self.teacher, self.coefficients = model, teacher, coefficients
        self.head = [demux_place(model)] if coefficients.states else []
        self.layers = layer_places(model) if coefficients.layers else []
        check_places(teacher, self.head, f"{call}(states={coefficients.states:g})")
        check_places(teacher, self.layers, f"{call}(layers={coefficients.layers:g})")

    def compare(
        self,
        student: Callable[[], Any],
        teacher: Callable[[nn.Module], Any],
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Any, dict[str, Tensor]]:
        """Call both, and return the student's output and the parts of the loss, without those of the labels.

        Args:
            student: calls the student.
            teacher: calls the teacher, which runs in evaluation mode without gradients.
            labels: of the rows, which tell where there is no answer; or None.
            mask: ``[rows, L]``, 0 at padding; or None.

        Raises:
            MuxwrapError: a module whose states are to be compared did not run.
        """
        places = [*self.head, *self.layers]
        with seen_at(self.model.backbone, places) as own:
            output = student()
        self.teacher.to(next(self.model.parameters()).device)
        with evaluating(self.teacher), torch.no_grad(), seen_at(self.teacher, places) as theirs:
            wanted = teacher(self.teacher)
        check_seen(places, own, theirs, self._call)
        parts: dict[str, Tensor] = {}
        if self.coefficients.distillation:
            parts["distillation"] = self._answers(answers_of(output), answers_of(wanted), labels, mask)
        if self.head:
            site = self.model.sites.demux[0]
            parts["states"] = states_apart(own[self.head[0]], theirs[self.head[0]], site.first_token, mask)
        if self.layers:
            student_states, wanted_states = ([found[place] for place in self.layers] for found in (own, theirs))
            parts["layers"] = layers_apart(self.model, student_states, wanted_states, mask)
        return output, parts

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum; where nothing is labelled, the teacher's answers have the labels' part as well."""
        weights = self.coefficients
        answers = weights.distillation if "task" in parts else weights.distillation + weights.task
        of = {"task": weights.task, "distillation": answers, "states": weights.states, "layers": weights.layers}
        return torch.stack([of[name] * part for name, part in parts.items()]).sum()

    def _answers(self, logits: Tensor, wanted: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor:
        counted = counted_answers(logits, labels, mask)
        if counted is not None and logits.shape == wanted.shape:
            logits, wanted = logits[counted], wanted[counted]
        return distillation(logits, wanted, self.coefficients.temperature)


def counted_answers(logits: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Return which answers count, bool of the shape of ``logits`` without the classes; None where all do.

    Tokens count where they have a label, or without labels where they are not padding.
    """
    shape = logits.shape[:-1]
    if labels is not None and labels.shape == shape:
        return labels != IGNORED
    return mask.bool() if mask is not None and len(shape) == 2 and mask.shape == shape else None


def answers_of(output: Any) -> Tensor:
    """Return the logits of an output, or the first tensor in it with rows.

    Raises:
        MuxwrapError: there is none.
    """
    if isinstance(output, dict) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    found = first_tensor(output)
    if found is None:
        raise MuxwrapError(
            f"the model returned a {type(output).__name__} without a tensor, so there is no answer to teach; let "
            "it return its logits"
        )
    return found


def task_loss(logits: Tensor, labels: Tensor, call: str) -> Tensor:
    """Return the cross-entropy of classes ``[rows, ..., classes]`` and labels ``[rows, ...]``; -100 does not count.

    Raises:
        MuxwrapError: the labels are not classes of these logits.
    """
    if labels.is_floating_point() or labels.shape != logits.shape[:-1]:
        raise MuxwrapError(
            f"{call}: labels {str(labels.dtype).removeprefix('torch.')} {list(labels.shape)} beside answers "
            f"{list(logits.shape)} are not a class per answer; leave the labels out, and the teacher alone is learned from"
        )
    return F.cross_entropy(logits.float().flatten(0, -2), labels.long().flatten(), ignore_index=IGNORED)


def mask_of(inputs: Any) -> Tensor | None:
    """Return the ``attention_mask`` ``[rows, L]`` of a call's arguments."""
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
