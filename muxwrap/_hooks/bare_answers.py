"""Whether a model answers with what was separated, as sentence embedders do: then the index can be read from its answer."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.call import Call
from muxwrap._util.nested import named_tensors

STEPS = 1000
"""Operations that are followed back from an answer. Between a separated state and an embedding made of it are few."""


class EmbeddingWarning:
    """Warns, once per model, where embeddings are trained whose index can be read."""

    def __init__(self) -> None:
        self._asked = False

    def look(self, call: Call, output: Any) -> None:
        """Look at the answers of a call of training: if one is made of separated states alone, warn in its backward."""
        if self._asked or not call.with_graph or not call.model.trains_embeddings or torch.compiler.is_compiling():
            return
        states = {state.grad_fn: state for state in call.answers if state.grad_fn is not None}
        if not states:
            return
        sizes = {
            size for state in call.answers for size in state.shape[1:]
        }  # a loss or a frozen head's logits have others
        answers = (  # maps of images are read by layers, not compared
            (path, answer)
            for path, answer in named_tensors(output)
            if 0 < answer.ndim < 4 and answer.shape[-1] in sizes
        )
        found = next((path for path, answer in answers if _is_made_of(answer, set(states))), None)
        if found is None:
            self._asked = True
        else:
            next(iter(states.values())).register_hook(partial(self._warn, found))

    def _warn(self, path: str, _gradient: Tensor) -> None:
        if not self._asked:
            self._asked = True
            warnings.warn(_MESSAGE.format(path=path), stacklevel=2)


_MESSAGE = (
    "output{path} is what was separated, with no trained layer behind: the index at which a row stands can be read from it. A "
    "loss that compares rows (in-batch negatives, triplets) learns the index instead of the rows. Wrap with shuffle=True and a "
    "demuxer with hide_index=True, such as demux=partial(MLP, hide_index=True), and measure "
    "muxwrap.evaluation.index_readable; wrap with shuffle=False where the loss takes one row at a time"
)


def _is_made_of(answer: Tensor, states: set[Any]) -> bool:
    """Whether an answer depends on separated states, and between the two no parameter comes in."""
    waiting, reached = [answer.grad_fn], False
    seen: set[Any] = set()
    while waiting and len(seen) < STEPS:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and isinstance(node.variable, torch.nn.Parameter):
            return False
        if node in states:
            reached = True
        else:
            waiting += [following for following, _ in node.next_functions]
    return reached and not waiting
