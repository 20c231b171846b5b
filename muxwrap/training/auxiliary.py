"""A second loss beside a task's, in fine-tuning."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from muxwrap._model.forwarding import blank, class_for, shown
from muxwrap._util.nested import replace_object
from muxwrap.demuxers.ranks import sharing
from muxwrap.multiplex import Multiplex, check_wrapped


class AuxiliaryLoss(nn.Module, ABC):
    """A wrapped model that has another loss in training.

    It is called as the model is and passes on its attributes, so that a Trainer takes it in the model's place. In
    evaluation mode it is the model.
    """

    model: Multiplex

    accepts_loss_kwargs = False
    """Read by the Trainer: the loss is a mean over the batch, so gradient accumulation has to divide it."""

    def __new__(cls, model: Multiplex, *_: Any, **__: Any) -> AuxiliaryLoss:
        """Make an instance of the subclass that has the forward signature of the backbone's class."""
        check_wrapped(model, cls.__name__)
        return object.__new__(class_for(cls, shown(model.backbone)))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; in training and with labels, its output has the summed loss."""
        with sharing(self):
            return (self.train_call if self.training else self.model)(*args, **kwargs)

    @abstractmethod
    def train_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model in training, and return its output with the summed loss."""

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call under the names that the backbone's forward has for them."""
        return inspect.signature(type(self.model.backbone).forward).bind_partial(None, *args, **kwargs).arguments

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or name.startswith("__"):
                raise
        return getattr(self.model, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, as that of the wrapped model is.
        return blank, (type(self).__base__, shown(self.model.backbone)), self.__dict__


def loss_of(output: Any) -> Tensor | None:
    """Return the loss of a Transformers output, a field or first in a tuple."""
    loss = output.get("loss") if isinstance(output, dict) else output[0] if isinstance(output, tuple) else None
    return loss if isinstance(loss, Tensor) and loss.ndim == 0 else None


def with_loss(output: Any, loss: Tensor) -> Any:
    """Return the output with another loss."""
    return replace_object(output, loss_of(output), loss)
