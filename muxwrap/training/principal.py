"""Slots that begin with what the stem's output is mostly made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.axes import features_last
from muxwrap._util.examples import quiet, run
from muxwrap._util.nested import first_tensor
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped
from muxwrap.site import Site
from muxwrap.strategies.features.slots import Slots
from muxwrap.strategies.keys import rotations
from muxwrap.training.pairs import as_pair


@torch.no_grad()
def principal_slots(model: Multiplex, batches: Iterable[Any], *, seed: int = 0) -> float:
    """Let slots begin with the principal directions of what is mixed, measured on data, in place.

    Random slots keep dim/n random coordinates of an instance, and so 1/n of its energy on average. Of a trained stem's
    output few directions hold most. Every W_i becomes ``R_i V``, V the first dim/n eigenvectors of the second moments
    E[h hᵀ] (principal components, not centred: a slot has no bias to put the mean back), R_i a random rotation, which
    spreads the energy over the slot's coordinates. Before any training, since slots that have learned are overwritten.

    Args:
        model: wrapped with ``slots``; a bare copy of the trained model is what its backbone still is.
        batches: as of :func:`distill`; some hundred rows are enough. Tokens that an ``attention_mask`` leaves out do not
            count.
        seed: of the rotations.

    Returns:
        The share of the energy that a slot keeps, 0 to 1.

    Raises:
        MuxwrapError: the model is not wrapped, its strategy is not ``slots``, or there is no batch.
    """
    check_wrapped(model, "principal_slots")
    strategy = model.strategy
    if not isinstance(strategy, Slots):
        raise MuxwrapError(
            f"principal_slots(model): the strategy is {type(strategy).__name__}; wrap with strategy='slots'"
        )
    values, vectors = torch.linalg.eigh(_moments(model, batches))
    values, vectors = values.flip(0), vectors.flip(1)
    for i, rows in enumerate(strategy.keys.split(strategy.slot_sizes)):
        turned = rotations(seed + i, 1, len(rows))[0].to(vectors) @ vectors[:, : len(rows)].T
        rows.copy_(turned.to(rows))
    return float(values[: strategy.slot_sizes[0]].sum() / values.sum())


def _moments(model: Multiplex, batches: Iterable[Any]) -> Tensor:
    """Return E[h hᵀ] of what is mixed, in double precision on the CPU: ``[dim, dim]``."""
    site, dim = model.sites.mux[0], model.strategy.dim
    device = next(model.parameters()).device
    total, count = torch.zeros(dim, dim, dtype=torch.float64), 0
    with quiet(model):
        for batch in batches:
            inputs = as_pair(batch, model.backbone, "principal_slots(batches=...)").to(device).inputs
            rows = _counted(features_last(at_site(model.backbone, site, inputs), site.axis, lead=1), inputs)
            total += (rows.double().T @ rows.double()).cpu()
            count += len(rows)
    if not count:
        raise MuxwrapError("principal_slots(batches=...): there is no row; give a data loader or a list of batches")
    return total / count


def _counted(features: Tensor, inputs: Any) -> Tensor:
    """Return the positions that are not padding, ``[positions, dim]``, of ``[rows, ..., dim]``."""
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    if mask is not None and mask.shape == features.shape[:2]:
        return features[mask.bool()]
    return features.reshape(-1, features.shape[-1])


def at_site(backbone: nn.Module, site: Site, inputs: Any) -> Tensor:
    """Call a bare backbone up to a site, and return the tensor that passes there.

    Raises:
        MuxwrapError: the call does not pass there.
    """
    found: list[Tensor] = []

    def see(value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is not None:
            found.append(tensor)
            raise _ReachedError

    module = backbone.get_submodule(site.path)
    if site.side == "input":
        handle = module.register_forward_pre_hook(lambda _, args, kwargs: see((args, kwargs)), with_kwargs=True)
    else:
        handle = module.register_forward_hook(lambda _module, _args, output: see(output))
    try:
        run(backbone, inputs)
    except _ReachedError:
        return found[0]
    finally:
        handle.remove()
    raise MuxwrapError(
        f"the {site} was never reached, so there is nothing to measure; give batches whose call reaches it"
    )


class _ReachedError(Exception):
    """Ends a call at the site."""
