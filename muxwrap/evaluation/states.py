"""The state at the place where a wrapped model separates: of the wrapped model, and of the bare one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muxwrap._util.examples import run
from muxwrap._util.nested import first_tensor, tensor_at, tensors_in
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped


def answers(model: Multiplex, inputs: Any) -> Tensor:
    """Return the first tensor of a model's output that has a row for every row of the batch."""
    output = run(model, inputs)
    found = next((t for t in tensors_in(output) if t.ndim and t.shape[0] == rows_of(inputs)), None)
    if found is None:
        raise MuxwrapError(
            f"{type(model.backbone).__name__} returned no tensor with a row for each of {rows_of(inputs)}; give a "
            "model that answers per row"
        )
    return found


def state(model: Multiplex, inputs: Any, *, bare: bool = False) -> Tensor:
    """Return ``[rows, features]`` at the (first) place where the model separates, behind the demuxer.

    Args:
        model: a wrapped model.
        inputs: a tensor, a tuple of arguments or a dict of keyword arguments.
        bare: of the bare model instead, at the same place.

    Raises:
        MuxwrapError: the bare model does not pass there.
    """
    site, seen = model.sites.demux[0], []
    module = model.backbone.get_submodule(site.path)

    def keep_input(_module: Any, args: Any, kwargs: Any) -> None:
        seen.append(first_tensor((args, kwargs)))

    def keep_output(_module: Any, _args: Any, output: Any) -> None:
        seen.append(tensor_at(output, site.part))

    # Hooks run in the order in which they were put on: these see what the model's own have made of the tensor.
    if site.side == "input":
        handle = module.register_forward_pre_hook(keep_input, with_kwargs=True)
    else:
        handle = module.register_forward_hook(keep_output)
    try:
        run(model.backbone if bare else model, inputs)
    finally:
        handle.remove()
    if not seen or seen[0] is None:
        raise MuxwrapError(f"the {site} was not reached, so there is no state to look at; give inputs that reach it")
    found = seen[0][:, :1] if site.first_token else seen[0]
    return found.flatten(1).float()


def rows_of(inputs: Any) -> int:
    """Return how many rows a batch has."""
    found = next(tensors_in(inputs), None)
    if found is None or found.ndim == 0:
        raise MuxwrapError(f"{type(inputs).__name__} holds no tensor with rows; give what the model is called with")
    return found.shape[0]


def whole_groups(model: Multiplex, inputs: Any, function: str, least: int = 1) -> int:
    """Return the number of groups of a batch, or refuse one whose last group would be filled up.

    Raises:
        MuxwrapError: the rows are not a multiple of n, or fewer than ``least`` groups; or the model is not wrapped.
    """
    check_wrapped(model, function)
    rows = rows_of(inputs)
    if rows % model.n or rows < least * model.n:
        raise MuxwrapError(
            f"{function}: {rows} rows in mixtures of n={model.n}; give whole groups, {least} or more: a multiple of "
            f"{model.n} rows from {least * model.n} on"
        )
    return rows // model.n
