"""Tensors that a model keeps on itself, ``self.features = h``, with a row per mixture where the bare model has one per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import ROWS, Example
from muxwrap._util.nested import tensors_in
from muxwrap.sites.runs.dry_run import answers

Kept = dict[str, torch.Size]
"""Sizes of the tensors that a call left on the modules, by their paths."""


def keeping(backbone: nn.Module, call: Callable[..., Any], kept: Kept) -> Callable[..., Any]:
    """Return a call that also notes what it leaves on the modules."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        before = {id(tensor) for _, tensor in _on_modules(backbone)}
        output = call(*args, **kwargs)
        kept.update((path, tensor.shape) for path, tensor in _on_modules(backbone) if id(tensor) not in before)
        return output

    return noting


def of_mixtures(backbone: nn.Module, example: Example, mixtures: int, kept: Kept) -> list[str]:
    """Return where a mixed call of ``ROWS`` rows left a row per mixture and the bare model leaves one per row.

    Args:
        backbone: the bare model; it runs once more where something is suspect.
        example: a call of it.
        mixtures: of the mixed call.
        kept: what the mixed call left.
    """
    suspects = [path for path, size in kept.items() if size[:1] == (mixtures,) and mixtures < ROWS]
    bare: Kept = {}
    if suspects:
        answers(backbone, example, ROWS, keeping(backbone, backbone, bare))
    return [path for path in suspects if bare.get(path, ())[:1] == (ROWS,)]


def _on_modules(backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, module in backbone.named_modules():
        for name, value in vars(module).items():
            if name not in _OWN:
                for tensor in tensors_in(value):
                    yield f"{path}.{name}".lstrip("."), tensor


_OWN = frozenset(vars(nn.Module()))
"""What every module has: its parameters, buffers, children and hooks."""
