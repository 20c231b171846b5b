"""A bare model as the teacher of a multiplexed one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap._util.examples import evaluating
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.auxiliary import AuxiliaryLoss, loss_of, with_loss

IGNORED = -100  # PyTorch's label of what does not count


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Return T² · KL(teacher ‖ student), a mean over the answers: how far those of a student are from its teacher's.

    Both are softened by the temperature T; T² keeps the gradient's size (Hinton, Vinyals and Dean 2015, section 2). The
    teacher's answer to a row does not depend on the row's companions, so it can be computed once, before training.

    Args:
        logits: the student's, ``[..., classes]``.
        teacher: the teacher's for the same rows, of the same shape; no gradient goes there.
        temperature: above 0.

    Raises:
        MuxwrapError: the shapes differ, there is only one class, or the temperature is not above 0.
    """
    if logits.shape != teacher.shape or logits.ndim < 2 or logits.shape[-1] < 2:
        raise MuxwrapError(
            f"distillation(logits={list(logits.shape)}, teacher={list(teacher.shape)}): give the scores of two classes or "
            "more, [..., classes], by both models for the same rows"
        )
    if not temperature > 0:
        raise MuxwrapError(f"distillation(temperature={temperature!r}): it has to be above 0")
    exact = torch.promote_types(logits.dtype, torch.float32)  # half precision would round small differences off
    student = (logits.to(exact) / temperature).log_softmax(-1).flatten(0, -2)
    wanted = (teacher.detach().to(exact) / temperature).log_softmax(-1).flatten(0, -2)
    apart = F.kl_div(student, wanted, reduction="sum", log_target=True)
    return temperature**2 * apart / max(len(student), 1)


class DistillationLoss(AuxiliaryLoss):
    """A wrapped model whose loss in training is ``task · its own + distillation · that to a teacher``.

    It is called as the model is and passes on its attributes, so that a Trainer takes it in the model's place. In
    evaluation mode, and where no labels are given, it is the model, and the teacher does not run. The teacher is not a
    part of it: it is not trained, not saved, and runs without dropout. Token classifiers learn from the teacher where a
    token has a label.

    Args:
        model: the wrapped model, of Transformers: its output has a loss and logits.
        teacher: a trained model of the same classes and inputs, such as a copy of the bare one made before wrapping.
        task: coefficient of the model's own loss.
        distillation: coefficient of :func:`distillation`.
        temperature: of :func:`distillation`.

    Raises:
        MuxwrapError: the model is not wrapped; the teacher is the model itself or its backbone; in training, their
            logits are not a choice between classes.
    """

    def __init__(
        self,
        model: Multiplex,
        teacher: nn.Module,
        *,
        task: float = 0.5,
        distillation: float = 0.5,
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        if {id(p) for p in teacher.parameters()} & {id(p) for p in model.parameters()}:
            raise MuxwrapError(
                f"DistillationLoss(teacher={type(teacher).__name__}): it shares weights with its student; make it of "
                "copy.deepcopy(bare) before wrapping"
            )
        self.model = model
        self._teacher = (teacher,)  # in a tuple, so that it is not a submodule
        self.task = task
        self.distillation = distillation
        self.temperature = temperature
        self.training = model.training

    def train_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model, then the teacher."""
        output = self.model(*args, **kwargs)
        loss = loss_of(output)
        if loss is None:
            return output
        if getattr(self.model.config, "problem_type", None) == "multi_label_classification":
            raise MuxwrapError("DistillationLoss(): several labels at once are not a choice between classes")
        logits = _logits_of(output)
        teacher = self._teacher[0].to(logits.device)
        with evaluating(teacher), torch.no_grad():
            wanted = _logits_of(teacher(*args, **kwargs))
        labels = self.named(args, kwargs).get("labels")
        if labels is not None and logits.shape[:-1] == wanted.shape[:-1] == labels.shape:
            logits, wanted = logits[labels != IGNORED], wanted[labels != IGNORED]
        taught = distillation(logits, wanted, self.temperature)
        return with_loss(output, self.task * loss + self.distillation * taught)


def _logits_of(output: Any) -> Tensor:
    """Return the logits of a Transformers output with a loss, as a field or second in a tuple."""
    logits: Tensor = output["logits"] if isinstance(output, dict) else output[1]
    return logits
