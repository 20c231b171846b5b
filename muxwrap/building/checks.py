"""What is refused before anything is built."""

from __future__ import annotations

import torch
from torch import nn

from muxwrap._hooks.adapters import learns_prompts
from muxwrap._hooks.running import is_hooked
from muxwrap.errors import MuxwrapError


def check_shuffle(shuffle: object) -> None:
    """Refuse what is not True, False or None.

    Raises:
        MuxwrapError: it is something else.
    """
    if shuffle is not None and not isinstance(shuffle, bool):
        raise MuxwrapError(
            f"wrap(shuffle={shuffle!r}): True deals rows to the indices at random in training, False does not, and None (the "
            "default) does not either"
        )


_AROUND = frozenset({"DistributedDataParallel", "DataParallel", "FSDPModule", "FullyShardedDataParallel"})
"""Classes of torch that hold a whole model and share out its parameters as they were when it was given."""


def check_backbone(backbone: object) -> None:
    """Refuse what cannot be wrapped, before anything is called.

    Raises:
        MuxwrapError: it is not a module, is wrapped already, is scripted, exported or compiled, or learns prompts.
    """
    if not isinstance(backbone, nn.Module):
        raise MuxwrapError(f"wrap({backbone!r}): {type(backbone).__name__} is not a torch.nn.Module")
    call = f"wrap({type(backbone).__name__})"
    if any(cls.__name__ in _AROUND and cls.__module__.startswith("torch.") for cls in type(backbone).__mro__):
        raise MuxwrapError(
            f"{call}: it is spread over processes or devices already, and what is added would get no part in that: its "
            "gradients would stay apart; wrap the module as it was made, then give what wrap returns to "
            "DistributedDataParallel or fully_shard"
        )
    for path, module in backbone.named_modules():
        place = repr(path) if path else "its root"
        if isinstance(module, torch.jit.ScriptModule):
            raise MuxwrapError(
                f"{call}: it is scripted (at {place}), and hooks do not act in TorchScript; put the Python module "
                "there that it was made from"
            )
        if hasattr(module, "range_constraints"):  # torch.export.export(...).module()
            raise MuxwrapError(
                f"{call}: it is an exported program (at {place}), which cannot change its mode and calls no modules; wrap the "
                "Python module that was exported, and export what wrap returns"
            )
        if is_hooked(module):
            raise MuxwrapError(f"{call}: it is wrapped already (at {place}); muxwrap.unwrap the wrapped model first")
        if "_orig_mod" in module._modules:  # torch.compile(module)
            raise MuxwrapError(
                f"{call}: it is compiled (at {place}), and compiled code may not see hooks that come later; wrap the module "
                "that was compiled, which is its ._orig_mod, and compile what wrap returns"
            )
        if module._compiled_call_impl is not None:  # module.compile()
            raise MuxwrapError(
                f"{call}: compile() was called (at {place}), and compiled code may not see hooks that come later; compile "
                "after wrapping, and set ._compiled_call_impl = None here"
            )
    if learns_prompts(backbone):
        raise MuxwrapError(
            f"{call}: prompt learning puts tokens of its own before every row, outside of the model in it; adapt the wrapped "
            "model: get_peft_model(muxwrap.wrap(model, n), config)"
        )
