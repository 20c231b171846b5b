"""The distance between the answers of a student and of its teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import MuxwrapError


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
