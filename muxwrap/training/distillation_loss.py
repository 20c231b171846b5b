"""A teacher beside a task's loss, in any training loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from muxwrap._util.examples import run
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.training.auxiliary import AuxiliaryLoss, loss_of, with_loss
from muxwrap.training.pairs import as_pair
from muxwrap.training.teacher import teacher_of
from muxwrap.training.teaching import Coefficients, Teaching, answers_of, mask_of, task_loss


class TaughtOutput(NamedTuple):
    """The loss of a batch, first in a tuple as training loops expect it.

    Args:
        loss: the weighted sum, a scalar.
        answers: the model's, with a row per row of the batch.
        parts: every part without its coefficient, by name.
    """

    loss: Tensor
    answers: Tensor
    parts: dict[str, Tensor]


class DistillationLoss(AuxiliaryLoss):
    """A wrapped model whose loss in training is the sum of its own and of those to a teacher.

    The parts are ``task`` · the labels' loss, ``distillation`` · :func:`distillation` of the answers, ``states`` · the squared
    distance of the states before the head, behind the demuxer, and ``layers`` · that of the states of the layers between the
    sites, where the mixture of the teacher's states is the goal. Without labels the teacher's answers have the labels' part.

    It is called as the model is and passes on its attributes, so that a ``Trainer`` takes it in the model's place. In
    evaluation mode it is the model, and the teacher does not run. For timm and loops of your own, whose models return no
    loss, :meth:`losses` is the whole loss of a batch. The teacher is not a part of it: it is not trained, not saved, and
    runs without dropout. Token classifiers learn from the teacher where a token has a label.

    Args:
        model: the wrapped model.
        teacher: a trained model of the same classes and inputs; by default a frozen copy of the model's backbone as it is
            now, so before any training on mixtures.
        task: coefficient of the labels' loss.
        distillation: coefficient of the teacher's answers.
        states: coefficient of the states before the head; by default 1, and 0 with a teacher of your own, which need not
            have the same states.
        layers: coefficient of the trunk's states.
        temperature: of :func:`distillation`.

    Raises:
        MuxwrapError: the model is not wrapped; the teacher is the model itself or its backbone, or has not the states; a bad
            coefficient; in training, answers that are not a choice between classes.
    """

    def __init__(
        self,
        model: Multiplex,
        teacher: nn.Module | None = None,
        *,
        task: float = 0.5,
        distillation: float = 0.5,
        states: float | None = None,
        layers: float = 0.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        self.coefficients = coefficients(teacher, task, distillation, states, layers, temperature)
        self.model = model
        self._teacher = (teacher_of(model, teacher, "DistillationLoss"),)  # in a tuple, so that it is not a submodule
        self._teaching()
        self.training = model.training

    def train_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model, then the teacher."""
        named = self.named(args, kwargs)
        labels = named.get("labels")
        output, parts = self._teaching().compare(
            lambda: self.model(*args, **kwargs), lambda teacher: teacher(*args, **kwargs), labels, mask_of(named)
        )
        config = getattr(self.model, "config", None)  # the backbone has written the kind of its task there by now
        if labels is not None and getattr(config, "problem_type", None) == "multi_label_classification":
            raise MuxwrapError("DistillationLoss(): several labels at once are not a choice between classes")
        own = loss_of(output) if labels is not None else None
        if own is None and not hasattr(output, "keys"):
            raise MuxwrapError(
                f"DistillationLoss: the {type(self.model.backbone).__name__} returned a {type(output).__name__} without a loss "
                "to add to; in a loop of your own take losses(inputs, labels)"
            )
        if own is None:
            return type(output)(**{**output, "loss": self._teaching().total(parts)})
        return with_loss(output, self._teaching().total({"task": own, **parts}))

    def losses(self, inputs: Any, labels: Tensor | None = None) -> TaughtOutput:
        """Return the loss of a batch for loops of your own.

        Args:
            inputs: a tensor, a tuple of arguments or a dict of keyword arguments of the model.
            labels: a class per answer, or None.
        """
        batch = as_pair((inputs, labels), self.model.backbone, "DistillationLoss.losses")
        return taught(self._teaching(), batch.inputs, batch.labels, "DistillationLoss.losses(labels=...)")

    def _teaching(self) -> Teaching:
        return Teaching(self.model, self._teacher[0], self.coefficients, "DistillationLoss")


def taught(teaching: Teaching, inputs: Any, labels: Tensor | None, call: str) -> TaughtOutput:
    """Return the loss of a batch: the parts that need a teacher, and the cross-entropy with labels where there are some."""
    labels = labels if teaching.coefficients.task else None
    output, parts = teaching.compare(
        lambda: run(teaching.model, inputs), lambda teacher: run(teacher, inputs), labels, mask_of(inputs)
    )
    answers = answers_of(output)
    if labels is not None:
        parts = {"task": task_loss(answers, labels, call), **parts}
    return TaughtOutput(teaching.total(parts), answers, parts)


def coefficients(
    teacher: nn.Module | None, task: float, distillation: float, states: float | None, layers: float, temperature: float
) -> Coefficients:
    """Return the coefficients; states are compared by default with a copy of the backbone, which has them."""
    return Coefficients(task, distillation, float(teacher is None) if states is None else states, layers, temperature)
