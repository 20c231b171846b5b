"""torch's fused transformer layers, switched off where hooks have to see what passes inside of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_lock = threading.Lock()
_inside = 0
_before = True


def _begin_anew() -> None:
    """Put the switch back in a forked process, where no thread is inside; one of the parent's may have held the lock."""
    global _lock, _inside
    _lock = threading.Lock()
    if _inside:
        _inside = 0
        torch.backends.mha.set_fastpath_enabled(_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Run without the fast path of ``nn.TransformerEncoder`` and its layers, which makes nested tensors of padded ones.

    The switch is one for all threads: the first to come in sets it, the last to leave puts it back.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.backends.mha.set_fastpath_enabled(_before)


def in_fast_path(backbone: nn.Module, path: str) -> bool:
    """Whether a module is inside of one that has a fast path."""
    names = path.split(".") if path else []
    around = (backbone.get_submodule(".".join(names[:depth])) for depth in range(len(names)))
    return any(isinstance(module, (nn.TransformerEncoder, nn.TransformerEncoderLayer)) for module in around)
