"""Retrieval beside a task's loss, in fine-tuning."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import Tensor

from muxwrap.forwarding import blank, class_for
from muxwrap.multiplex import Multiplex
from muxwrap.tensors import replace_object
from muxwrap.training.batches import as_batch
from muxwrap.training.head import RetrievalHead, check_wrapped, head_at
from muxwrap.training.objective import Indices, Retrieval
from muxwrap.training.tokens import find_places, read_tokens


class RetrievalLoss(Retrieval):
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

    accepts_loss_kwargs = False
    """Read by the Trainer: the loss is a mean over the batch, so gradient accumulation has to divide it."""

    def __new__(cls, model: Multiplex, *_: Any, **__: Any) -> RetrievalLoss:
        """Make an instance of the subclass that has the forward signature of the backbone's class."""
        check_wrapped(model, "RetrievalLoss")
        return object.__new__(class_for(RetrievalLoss, type(model.backbone)))

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
        super().__init__(model, head_at(model, places) if head is None else head, places, indices)
        self.task = task
        self.retrieval = retrieval
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; in training and with labels, its output has the summed loss."""
        call = partial(self.model, *args, **kwargs)
        if not self.training:
            return call()
        output, tokens = read_tokens(self.model, self.places.site, call, stop=False)
        loss = _loss_of(output)
        if loss is None:
            return output
        given = inspect.signature(type(self.model.backbone).forward).bind_partial(None, *args, **kwargs).arguments
        batch = as_batch(self.model.backbone, given, self.head.tokens)
        return replace_object(output, loss, self.task * loss + self.retrieval * self.score(tokens, batch)[0])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or name.startswith("__"):
                raise
        return getattr(self.model, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, as that of the wrapped model is.
        return blank, (RetrievalLoss, type(self.model.backbone)), self.__dict__


def _loss_of(output: Any) -> Tensor | None:
    """Return the loss that a Transformers model gave, as a field or first in a tuple."""
    loss = output.get("loss") if isinstance(output, dict) else output[0] if isinstance(output, tuple) else None
    return loss if isinstance(loss, Tensor) and loss.ndim == 0 else None
