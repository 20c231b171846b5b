"""How far a demultiplexed state is from the one that the bare model has at the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.examples import quiet
from muxwrap._util.plots import bars_by_index
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.states import state, whole_groups
from muxwrap.multiplex import Multiplex


@dataclass(frozen=True)
class StateDistance:
    """For every index the mean of ‖wrapped - bare‖ / ‖bare‖ (``relative[i]``) and of the cosine (``cosine[i]``)."""

    relative: Tensor
    cosine: Tensor

    def plot(self, ax: Any = None) -> Any:
        """Draw the relative distance of every index on a matplotlib ``Axes`` (a new one by default), and return it."""
        return bars_by_index(self.relative, ax, "distance from the bare model's state")


def state_distance(model: Multiplex, inputs: Any) -> StateDistance:
    """Compare the state behind the (first) demuxer with the bare model's own, row by row.

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back. The bare model is its backbone, with
            whatever training made of it.
        inputs: whole groups: a tensor, a tuple of arguments or a dict of keyword arguments.

    Raises:
        MuxwrapError: the model is not wrapped, the rows are not whole groups, or the bare state has another shape.
    """
    groups = whole_groups(model, inputs, "state_distance")
    with quiet(model):
        wrapped, bare = state(model, inputs).cpu(), state(model, inputs, bare=True).cpu()
    if wrapped.shape != bare.shape:
        raise MuxwrapError(
            f"state_distance: {list(wrapped.shape)} features behind the demuxer and {list(bare.shape)} in the bare model; take "
            "a demuxer that keeps their number"
        )
    relative = (wrapped - bare).norm(dim=1) / bare.norm(dim=1)
    cosine = F.cosine_similarity(wrapped, bare, dim=1)
    return StateDistance(*(values.view(groups, model.n).mean(0) for values in (relative, cosine)))
