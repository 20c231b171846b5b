"""How a wrapped model answers for its backbone: the class made for it, its signature, and the attributes passed on.

Training scripts read a model's forward signature (``transformers.Trainer`` drops the columns that it does not find there)
and its attributes. A wrapper that hides them breaks those scripts; one that passes on everything is worse: a forwarded
``save_pretrained`` would save the backbone alone and say nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from muxwrap.errors import MuxwrapError
from muxwrap.sites.families.timm import layer_of

FORWARDED_METHODS = frozenset(
    {
        "get_classifier",  # timm
        "set_grad_checkpointing",
        "get_input_embeddings",  # transformers
        "get_output_embeddings",
        "activation_checkpointing_enable",
        "activation_checkpointing_disable",
        "gradient_checkpointing_enable",
        "gradient_checkpointing_disable",
        "enable_input_require_grads",
        "disable_input_require_grads",
        "floating_point_ops",
        "num_parameters",
        "warnings_issued",
    }
)
"""Methods that mean the same for the wrapped model. Data and submodules are always passed on, other methods never."""


_classes: dict[tuple[Any, Any], Any] = {}


class RefusedAttributeError(MuxwrapError, AttributeError):
    """A method of the backbone that would not mean for the wrapped model what its name says."""


def class_for(base: Any, backbone: Any) -> Any:
    """Return the subclass of ``base`` whose forward has the signature of the backbone's class.

    It is read from the class by ``transformers.Trainer``, so an attribute on the instance would not do.
    """
    if (base, backbone) in _classes:
        return _classes[base, backbone]

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return base.forward(self, *args, **kwargs)

    forward.__signature__ = inspect.signature(backbone.forward)  # type: ignore[attr-defined]
    forward.__doc__ = backbone.forward.__doc__
    _classes[base, backbone] = type(
        f"{base.__name__}{backbone.__name__}", (base,), {"forward": forward, "__module__": base.__module__}
    )
    return _classes[base, backbone]


def blank(base: Any, backbone: Any) -> Any:
    """Return an instance without state, which pickle and copy then fill."""
    return object.__new__(class_for(base, backbone))


def forwarded(backbone: nn.Module, name: str) -> Any:
    """Return the backbone's attribute if the wrapped model may answer with it.

    Raises:
        AttributeError: the backbone has none either, or it is a method that is not passed on.
    """
    value = getattr(backbone, name)
    if name == "group_matcher":
        return lambda coarse=False: layer_of(backbone, value(coarse=coarse))
    if inspect.isroutine(value) and name not in FORWARDED_METHODS:
        raise RefusedAttributeError(
            f"{name}() of the {type(backbone).__name__} is not aware of multiplexing and is not passed on; call "
            f"model.backbone.{name}() if the bare model is meant"
        )
    return value
