"""How a wrapped model answers for its backbone: the class made for it, its name and signature, and the attributes passed on.

Training scripts read a model's forward signature (``transformers.Trainer`` drops the columns that it does not find there),
the name of its class (by which the Trainer knows the causal models, whose labels it shifts) and its attributes, and they set
attributes. A wrapper that hides the backbone breaks those scripts; one that passes on everything is worse: a forwarded
``save_pretrained`` would save the backbone alone without a word.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from muxwrap._hooks.adapters import inside
from muxwrap._hooks.parts import FEATURES, HEAD
from muxwrap._hooks.running import is_hooked
from muxwrap.errors import MuxwrapError
from muxwrap.sites.families.timm import layer_of

FORWARDED_METHODS = frozenset(
    {
        "get_classifier",  # timm
        "set_distilled_training",
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
        "loss_function",
        "num_parameters",
        "warnings_issued",
        "prepare_inputs_for_generation",  # PEFT reads it from every causal model
        "prepare_decoder_input_ids_from_labels",  # DataCollatorForSeq2Seq asks for it, and label smoothing needs it
        "set_attn_implementation",
        "tie_weights",
        "freeze_base_model",
        "freeze_feature_encoder",
        "disable_adapter",  # PEFT, around the backbone
        "set_adapter",
        "load_adapter",
        "delete_adapter",
        "add_adapter",
        "enable_adapter_layers",
        "disable_adapter_layers",
        "merge_adapter",
        "unmerge_adapter",
    }
)
"""Methods that mean the same for the wrapped model. Data and submodules are always passed on, other methods never."""

REPLACING_METHODS = frozenset(
    {
        "reset_classifier",  # timm
        "set_input_embeddings",  # transformers
        "set_output_embeddings",
        "resize_token_embeddings",
    }
)
"""Methods that may replace a module with hooks; they are called without hooks, which are then put on the new module."""

UNLOADING_METHODS = frozenset({"merge_and_unload", "unload"})
"""Methods of PEFT's shell that return the model inside; of a wrapped one they return that model wrapped."""

PARTS = frozenset({FEATURES, HEAD})
"""Methods that are parts of a call (timm); they are called with the hooks acting."""

_OF_THE_TRUNK = "it gives maps of the trunk, and those belong to mixtures"
_REFUSED = {
    "generate": "generate() is not supported: the instances of a mixture would have to share their next token; call "
    "model.backbone.generate(...) for the bare model",
    "forward_intermediates": f"forward_intermediates() is not supported: {_OF_THE_TRUNK}; call "
    "model.backbone.forward_intermediates(...) for the bare model",
    "get_intermediate_layers": f"get_intermediate_layers() is not supported: {_OF_THE_TRUNK}; call "
    "model.backbone.get_intermediate_layers(...) for the bare model",
    "prune_intermediate_layers": "prune_intermediate_layers() is not supported: it takes away layers at which instances may be "
    "mixed or separated; prune the bare model and wrap it then",
}

_classes: dict[tuple[Any, Any], Any] = {}


class RefusedAttributeError(MuxwrapError, AttributeError):
    """A method of the backbone that would not mean for the wrapped model what its name says."""


def class_for(base: Any, backbone: Any) -> Any:
    """Return the subclass of ``base`` that has the name of the backbone's class and its forward's signature.

    Both are read from the class by ``transformers.Trainer``, so attributes on the instance would not do.
    """
    if (base, backbone) in _classes:
        return _classes[base, backbone]

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(args, tuple):  # torch.fx hands over a stand-in for all arguments
            raise MuxwrapError(
                "torch.fx traces without values, and how a batch is grouped depends on its size; trace the bare model and wrap "
                "what comes out, or export model.grouped() with torch.export"
            )
        return base.forward(self, *args, **kwargs)

    forward.__signature__ = inspect.signature(backbone.forward)  # type: ignore[attr-defined]
    forward.__doc__ = backbone.forward.__doc__
    names = {"__module__": base.__module__, "__qualname__": f"{base.__name__}[{backbone.__name__}]"}
    made = type(backbone.__name__, (base,), {"forward": forward, **names})
    return _classes.setdefault((base, backbone), made)  # one class, whichever thread made it first


def shown(backbone: nn.Module) -> type[nn.Module]:
    """Return the class that a wrapped model is named after: of a model in PEFT's shell, that of the model inside."""
    return type(inside(backbone))


def blank(base: Any, backbone: Any) -> Any:
    """Return an instance without state, which pickle and copy then fill."""
    return object.__new__(class_for(base, backbone))


def forwarded(backbone: nn.Module, name: str) -> Any:
    """Return the backbone's attribute if the wrapped model may answer with it.

    Raises:
        AttributeError: the backbone has none either, or it is a method that is not passed on.
    """
    if name in _REFUSED:
        raise RefusedAttributeError(_REFUSED[name])
    value = getattr(backbone, name)
    if name == "group_matcher":
        return lambda coarse=False: layer_of(backbone, value(coarse=coarse))
    if inspect.isroutine(value) and name not in FORWARDED_METHODS:
        raise RefusedAttributeError(
            f"{name}() of the {type(backbone).__name__} is not aware of multiplexing and is not passed on; call "
            f"model.backbone.{name}() if the bare model is meant"
        )
    return value


def belongs_to(backbone: nn.Module, name: str) -> bool:
    """Whether an attribute is the backbone's, so that setting and deleting it has to reach the backbone."""
    return hasattr(backbone, name) or hasattr(type(backbone), name)


def check_change(backbone: nn.Module, name: str, change: str, value: Any = None) -> None:
    """Refuse to set or delete an attribute of the backbone if the wrapped model would not follow.

    Args:
        backbone: has the attribute.
        name: of the attribute.
        change: what the user wrote; the message repeats it.
        value: what is set.

    Raises:
        RefusedAttributeError: instances are mixed or separated at the module or in it, or the name is that of a method which
            is not passed on.
    """
    old = backbone._modules.get(name)
    if old is not None and value is not old and any(is_hooked(module) for module in old.modules()):
        raise RefusedAttributeError(
            f"{change} would take away a module at which instances are mixed or separated; unwrap, change it and wrap again, "
            f"or set model.backbone.{name}, then model.detach() and model.attach()"
        )
    if inspect.isroutine(getattr(backbone, name, None)) and name not in FORWARDED_METHODS:
        raise RefusedAttributeError(
            f"{change}: {name}() of the {type(backbone).__name__} is not passed on, so neither is another one; set "
            f"model.backbone.{name} if the bare model's is meant"
        )
