"""A ``forward`` that a user sets on a wrapped model: it has to call the one that was there, or nothing is mixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from muxwrap._hooks.running import begin_watch, end_watch
from muxwrap.errors import MuxwrapError


def watch_forward(model: nn.Module) -> None:
    """Look at every call of a model from now on, whether its own forward is in it."""
    if _begin not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_begin)
        model.register_forward_hook(_check, always_call=True)


def _begin(_model: Any, _args: Any) -> None:
    if not torch.compiler.is_compiling():
        begin_watch()


def _check(model: Any, _args: Any, output: Any) -> None:
    if torch.compiler.is_compiling():
        return
    called = end_watch()
    if output is not None and model._attachment.key not in called:  # None where the forward failed, too
        raise MuxwrapError(
            "model.forward was replaced, and the new one does not call the old one, so that nothing was mixed or separated; "
            "let it call the old one, or give the bare model the new forward before it is wrapped"
        )
