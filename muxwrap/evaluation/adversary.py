"""How often companions that are chosen or made for it turn a right answer into a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap._util.nested import map_tensors, replace_object, tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.company import check_labels
from muxwrap.evaluation.states import answers
from muxwrap.multiplex import Multiplex, check_wrapped


@dataclass(frozen=True)
class AdversarialCompany:
    """Accuracies, 0 to 1, of the same rows beside other companions.

    Args:
        usual: beside rows drawn at random.
        chosen: beside the worst of several draws, for each row.
        crafted: beside companions that gradients of the row's loss have moved, from that draw on; None where inputs are
            integers, such as token ids.
        rows: how many were asked.
    """

    usual: float
    chosen: float
    crafted: float | None
    rows: int


def adversarial_company(
    model: Multiplex,
    batches: Iterable[tuple[Any, Tensor]],
    *,
    candidates: int = 16,
    steps: int = 20,
    step: float = 0.05,
    seed: int = 0,
) -> AdversarialCompany:
    """Choose companions for every row, and move them along gradients, so that its answer becomes wrong.

    The attacker knows the weights and the row, sets all n - 1 companions, and does not touch the row. Moved numbers stay
    between the smallest and the largest of the batch (signed gradient steps, Madry et al., 2018, without another bound). Rows
    stand at all indices in turn.

    Args:
        model: a wrapped classifier; measured in evaluation mode, its mode is put back.
        batches: pairs of inputs (a tensor, a tuple of arguments or a dict of keyword arguments) and labels ``[rows]``; read
            once. Companions of a row come from its batch; a call holds n times its rows.
        candidates: how many draws of companions are tried.
        steps: of the gradients; 0 crafts none.
        step: of one of them, as a share of the range of the batch's numbers.
        seed: of the draws.

    Raises:
        MuxwrapError: the model is not wrapped, n is 1, no draws, a batch of one row, labels that are not one integer for each
            row, or answers that are not scores ``[rows, classes]``.
    """
    check_wrapped(model, "adversarial_company")
    if model.n == 1 or candidates < 1:
        raise MuxwrapError(
            f"adversarial_company(candidates={candidates}) at n={model.n}: there are no companions to choose; give a model "
            "with n of 2 or more, and one draw or more"
        )
    generator = torch.Generator().manual_seed(seed)
    usual, chosen, crafted = [], [], []
    with quiet(model):
        for inputs, labels in batches:
            check_labels("adversarial_company", inputs, labels)
            seat = _Seats(model, inputs, labels)
            draws = [seat.draw(generator) for _ in range(candidates)]
            losses, rights = zip(*(seat.judged(seat.together(drawn)) for drawn in draws), strict=True)
            usual.append(rights[0])
            chosen.append(torch.stack(rights).all(0))
            worst = torch.stack(losses).argmax(0)
            found = seat.crafted(torch.stack(draws)[worst, torch.arange(len(labels))], steps, step)
            crafted.append(None if found is None else found & chosen[-1])
    if not usual:
        raise MuxwrapError("adversarial_company(batches): no rows; give pairs (inputs, one integer for each row)")
    made = [each for each in crafted if each is not None]
    return AdversarialCompany(
        _share(usual), _share(chosen), _share(made) if len(made) == len(usual) else None, sum(map(len, usual))
    )


class _Seats:
    """The rows of a batch, each in a mixture of its own."""

    def __init__(self, model: Multiplex, inputs: Any, labels: Tensor) -> None:
        self.model, self.inputs, self.labels = model, inputs, labels
        self.rows = len(labels)
        if self.rows < 2:
            raise MuxwrapError(
                "adversarial_company(batches): a batch of one row has no companions in it; give two or more"
            )
        self.index = torch.arange(self.rows) % model.n

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return which row stands where, ``[rows, n]``: every row once at its index, beside others."""
        own = torch.arange(self.rows).unsqueeze(1)
        others = torch.randint(1, self.rows, (self.rows, self.model.n), generator=generator)
        return torch.where(torch.arange(self.model.n) == self.index.unsqueeze(1), own, (own + others) % self.rows)

    def together(self, drawn: Tensor) -> Any:
        """Return the batch of all mixtures' rows."""
        flat = drawn.flatten()
        return map_tensors(self.inputs, lambda x: x[flat.to(x.device)] if x.shape[:1] == (self.rows,) else x)

    def judged(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return every row's loss, and whether it is answered right."""
        scores = answers(self.model, batch)
        if scores.ndim != 2 or not scores.is_floating_point():
            raise MuxwrapError(
                f"adversarial_company(model): it answers {list(scores.shape)} of {scores.dtype}; give a classifier, which "
                "answers with scores [rows, classes]"
            )
        own = scores.unflatten(0, (self.rows, -1))[torch.arange(self.rows), self.index].float()
        labels = self.labels.to(own.device)
        return F.cross_entropy(own, labels, reduction="none"), own.detach().argmax(1) == labels

    def crafted(self, drawn: Tensor, steps: int, step: float) -> Tensor | None:
        """Return whether rows are answered right beside companions moved along the gradient, after every step."""
        batch = self.together(drawn)
        x = next((t for t in tensors_in(batch) if t.is_floating_point() and t.shape[:1] == (drawn.numel(),)), None)
        if x is None or steps < 1:
            return None
        least, most = x.amin(), x.amax()
        companion = (torch.arange(self.model.n) != self.index.unsqueeze(1)).flatten().to(x.device)
        free = companion.view(-1, *[1] * (x.ndim - 1))
        moved, right = x, torch.ones(self.rows, dtype=torch.bool, device=x.device)
        for _ in range(steps):
            with torch.enable_grad():
                leaf = moved.detach().requires_grad_()
                loss, _ = self.judged(replace_object(batch, x, leaf))
                (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            further = (moved + step * (most - least) * gradient.sign()).clamp(least, most)
            moved = torch.where(free, further, x)
            right = right & self.judged(replace_object(batch, x, moved))[1]
        return right


def _share(right: list[Tensor]) -> float:
    return float(torch.cat([each.cpu() for each in right]).double().mean())
