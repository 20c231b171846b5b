"""Retrieval as a loss: beside a task's, or alone in any training loop."""

from __future__ import annotations

from functools import partial
from typing import Any

from muxwrap.multiplex import Multiplex
from muxwrap.training.auxiliary import AuxiliaryLoss, loss_of, with_loss
from muxwrap.training.batches import as_batch, ids_argument
from muxwrap.training.head import RetrievalHead, head_at
from muxwrap.training.objective import Indices, Retrieval
from muxwrap.training.token_sites import find_token_sites
from muxwrap.training.tokens import read_tokens


class RetrievalLoss(AuxiliaryLoss, Retrieval):
    """A wrapped model whose loss in training is ``task · its own + retrieval · that of retrieval`` (DataMUX, section 3.3).

    It is called as the model is and passes on its attributes, so that a Trainer takes it in the model's place. In
    evaluation mode it is the model: its loss is the task's and the retrieval head does not run. ``model`` is the wrapped
    model and ``head`` the retrieval head, which are trained together and saved separately.

    With ``task`` above 0 the loss needs labels; without them it is the model. With ``task=0`` no labels are needed, and in
    training the call ends at the trunk's end and returns a :class:`RetrievalOutput`: the objective of :func:`warm_up`, for
    a Trainer, Accelerate, or a loop of your own. The model's own head then gets no gradient, of which
    ``DistributedDataParallel`` has to be informed (``find_unused_parameters=True``).

    Args:
        model: the wrapped model; with ``task`` above 0 one of Transformers, whose output has a loss.
        head: of :func:`warm_up` or :func:`retrieval_head`; by default a new one.
        task: coefficient of the model's own loss (published: 0.9).
        retrieval: coefficient of the retrieval loss (published: 0.1).
        indices: ``"one"`` (published) draws one instance per position, so that the vocabulary costs as much as in a bare
            model; ``"all"`` predicts the tokens of all n.
        example: a batch; not needed for Transformers models.

    Raises:
        MuxwrapError: the model is not wrapped, is not a text model, or the head does not fit it.
    """

    def __init__(
        self,
        model: Multiplex,
        head: RetrievalHead | None = None,
        *,
        task: float = 0.9,
        retrieval: float = 0.1,
        indices: Indices = "one",
        example: Any = None,
    ) -> None:
        sites = find_token_sites(model, example)
        Retrieval.__init__(self, model, head_at(model, sites) if head is None else head, sites, indices)
        self.task = task
        self.retrieval = retrieval
        self.training = model.training

    def train_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model and predict tokens."""
        if self.task == 0:
            batch = self._batch(args, kwargs)
            found = self.score(self._tokens(batch), batch)
            return found._replace(loss=self.retrieval * found.loss)
        call = partial(self.model, *args, **kwargs)
        output, tokens = read_tokens(self.model, self.token_sites.output, call, stop=False)
        loss = loss_of(output)
        if loss is None:
            return output
        found = self.score(tokens, self._batch(args, kwargs))
        return with_loss(output, self.task * loss + self.retrieval * found.loss)

    def _batch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        named = self.named(args, kwargs)
        ids = ids_argument(self.model.backbone)
        columns = {"input_ids" if name == ids else name: value for name, value in named.items()}
        return as_batch(self.model.backbone, columns, self.head.tokens)
