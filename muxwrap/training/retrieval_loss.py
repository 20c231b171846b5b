"""Retrieval beside a task's loss."""

from __future__ import annotations

from functools import partial
from typing import Any

from muxwrap.multiplex import Multiplex
from muxwrap.training.auxiliary import AuxiliaryLoss, loss_of, with_loss
from muxwrap.training.batches import as_batch
from muxwrap.training.head import RetrievalHead, head_at
from muxwrap.training.objective import Indices, Retrieval
from muxwrap.training.tokens import find_places, read_tokens


class RetrievalLoss(AuxiliaryLoss, Retrieval):
    """A wrapped model whose loss in training is ``task · its own + retrieval · that of retrieval`` (DataMUX, section 3.3).

    It is called as the model is and passes on its attributes, so that a Trainer takes it in the model's place. In
    evaluation mode, and where no labels are given, it is the model: its loss is the task's and the head does not run.
    ``model`` is the wrapped model and ``head`` the head, which are trained together and saved each for itself.

    Args:
        model: the wrapped model, of Transformers: its output has a loss.
        head: of :func:`warm_up`; by default a new one of :func:`retrieval_head`.
        task: coefficient of the model's own loss (published: 0.9).
        retrieval: coefficient of the retrieval loss (published: 0.1).
        indices: see :func:`warm_up`.

    Raises:
        MuxwrapError: the model is not wrapped, is no text model of Transformers, or the head does not fit it.
    """

    def __init__(
        self,
        model: Multiplex,
        head: RetrievalHead | None = None,
        *,
        task: float = 0.9,
        retrieval: float = 0.1,
        indices: Indices = "one",
    ) -> None:
        places = find_places(model)
        Retrieval.__init__(self, model, head_at(model, places) if head is None else head, places, indices)
        self.task = task
        self.retrieval = retrieval
        self.training = model.training

    def train_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model and ask for tokens."""
        call = partial(self.model, *args, **kwargs)
        output, tokens = read_tokens(self.model, self.places.site, call, stop=False)
        loss = loss_of(output)
        if loss is None:
            return output
        batch = as_batch(self.model.backbone, self.named(args, kwargs), self.head.tokens)
        return with_loss(output, self.task * loss + self.retrieval * self.score(tokens, batch)[0])
