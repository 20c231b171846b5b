"""Gradients of several micro-batches held back until all are known, so that they are centered as those of one batch.

The centered gradient of a trunk is ``Σ_k J_k^T (g_k - mean(g))`` over the mixtures k of the batch, J_k being the trunk's
derivative. It is not a sum over micro-batches: the mean is known only after the last, and the derivatives of the first are
needed then. So the graph of a micro-batch is cut where it was separated. Its own backward goes through heads and stops
there; the graph of the trunk, whose rows are mixtures, is kept, and one backward through all of them follows the last.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from muxwrap.demuxers.ranks import Ranks, mean_of_ranks, padded
from muxwrap.errors import MuxwrapError


class Held(NamedTuple):
    """One separation.

    Args:
        place: which of the separations of its micro-batch, and the sizes n and dim.
        state: ``[g, n, ..., dim]``, with the graph of the trunk.
        cut: the same numbers, which the rest of the call goes on with.
        ranks: the process group that centers together.
    """

    place: tuple[int, int, int]
    state: Tensor
    cut: Tensor
    ranks: Ranks | None


class Accumulation:
    """What the micro-batches of one optimizer step hold back.

    Attributes:
        held: what is held.
        closing: release at the end of the next backward: the running call is the last micro-batch.
        done: it is released.
    """

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.done = self.closing = False
        self._queued = False
        self._number = 0
        _live.add(self)

    @torch.compiler.disable(reason="gradients of micro-batches are held back outside of compiled code")
    def hold(self, separated: Tensor, ranks: Ranks | None) -> Tensor:
        """Return the separated states cut off from the trunk; as they are where nothing in it is trained."""
        if not separated.requires_grad:
            return separated
        cut = separated.detach().requires_grad_()
        if torch._C._current_graph_task_id() != -1:
            return cut  # checkpointing runs the call again, in the backward of the one that is held
        place = (self._number, separated.shape[1], separated.shape[-1])
        self.held.append(Held(place, separated, cut, ranks))
        self._number += 1
        cut.register_post_accumulate_grad_hook(self._arrived)
        return cut

    def release(self) -> None:
        """Center what has arrived over all mixtures and let it go on into the trunk.

        Raises:
            MuxwrapError: the trunk's graph is gone, since something else went backward through it.
        """
        held = [each for each in self.held if each.cut.grad is not None]
        self.drop()
        gradients: dict[int, Tensor] = {}
        for place in dict.fromkeys(each.place for each in held):
            here = [each for each in held if each.place == place]
            gradients |= zip(map(id, here), _centered(here), strict=True)
        if not held:
            return
        try:
            torch.autograd.backward([each.state for each in held], [gradients[id(each)] for each in held])
        except RuntimeError as error:
            if "second time" not in str(error):
                raise
            raise MuxwrapError(
                "gradients of micro-batches are centered together, after the last, and the trunk's graph was freed before: a "
                "loss reads the trunk besides what is separated. Use a demuxer with center_gradients=False, or one batch"
            ) from error

    def drop(self) -> None:
        """Forget all."""
        self.held, self.done = [], True

    def holds_back(self, optimizer: Optimizer) -> bool:
        """Whether gradients of an optimizer's parameters are held back."""
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        arrived = [each.state for each in self.held if each.cut.grad is not None]
        return any(id(parameter) in own for state in arrived for parameter in _parameters_of(state))

    def _arrived(self, _cut: Tensor) -> None:
        if self.done:
            raise MuxwrapError(
                "backward() comes after the gradients of its micro-batches have gone on into the trunk, and could not follow "
                "them; call one backward() for the last micro-batch, or all inside 'with accumulation(model):'"
            )
        self._number = 0  # what is separated next belongs to another micro-batch
        if self.closing and not self._queued:
            self._queued = True
            torch.autograd.Variable._execution_engine.queue_callback(self.release)


_live: weakref.WeakSet[Accumulation] = weakref.WeakSet()


def _centered(here: list[Held]) -> list[Tensor]:
    """Return the gradients of the states of one place, without their mean over all mixtures."""
    arrived = [each.cut.grad for each in here if each.cut.grad is not None]
    sizes = [max(axis) for axis in zip(*(gradient.shape[1:] for gradient in arrived), strict=True)]
    total = torch.stack([padded(gradient.sum(0, keepdim=True), [1, *sizes]) for gradient in arrived]).sum(0)
    mean = mean_of_ranks(total, sum(len(gradient) for gradient in arrived), here[0].ranks)
    return [gradient - mean[tuple(map(slice, (1, *gradient.shape[1:])))] for gradient in arrived]


def _parameters_of(state: Tensor) -> Iterator[nn.Parameter]:
    """Yield the parameters that a state depends on."""
    waiting, seen = [state.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
            if isinstance(getattr(node, "variable", None), nn.Parameter):
                yield node.variable  # type: ignore[attr-defined]


def _check_step(optimizer: Optimizer, *_: Any) -> None:
    if any(each.holds_back(optimizer) for each in _live):
        raise MuxwrapError(
            "optimizer.step(): the trunk's gradients of the micro-batches are still held back, to be centered together; end "
            "'with accumulation(model):' before the step, and call backward() outside of no_sync() for the last micro-batch "
            "(Accelerate's GradientState().sync_gradients is False after an interrupted loop)"
        )


register_optimizer_step_pre_hook(_check_step)
