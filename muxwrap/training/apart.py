"""An untrained trunk that begins as n networks side by side, one for every instance's block of features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from muxwrap.errors import MuxwrapError
from muxwrap.layout import Site
from muxwrap.multiplex import Multiplex
from muxwrap.sites.find import example_of
from muxwrap.sites.probe import Trace, Visit, trace
from muxwrap.training.head import check_wrapped


@torch.no_grad()
def start_apart(model: Multiplex, example_input: Any = None) -> list[str]:
    """Make the trunk of an untrained model block-diagonal in place: each instance is computed on by itself at the start.

    In a random dense trunk every instance is noise to the n - 1 others. The first thing that such a model learns is to
    suppress the noise, and with it what it would have to learn from: it stays at chance, the longer the larger n is. Here
    every weight between features of different instances starts at zero, and the others are enlarged so that a layer's
    output keeps its size. Zeros are a start and no constraint: training fills them. (The heads and slots of the exact
    construction, see :mod:`muxwrap.theory`, as an initialisation.)

    Which features are whose is given by the strategy's blocks: feature f of a layer with a multiple of dim features
    belongs to the instance that has coordinate ``f mod dim``; other widths are cut into n parts. Layers of fewer than n
    features, convolutions with groups, norms and biases stay as they are.

    Args:
        model: wrapped with a strategy that has blocks, ``slots`` or ``binary``. Its trunk's weights are changed, so it must
            not be pretrained.
        example_input: a call of the backbone, as for :func:`muxwrap.wrap`; needed for models that do not say what they
            take.

    Returns:
        The names of the weights that were changed.

    Raises:
        MuxwrapError: the model is not wrapped, the strategy has no blocks, or nothing between the sites has weights.
    """
    check_wrapped(model, "start_apart")
    blocks = model.strategy.blocks
    if blocks is None:
        raise MuxwrapError(
            f"start_apart(model): the instances of {type(model.strategy).__name__} lie on top of each other, so that the trunk "
            "cannot begin with a part for each; wrap with strategy='slots'"
        )
    seen = trace(model.backbone, example_of(model.backbone, example_input))
    changed = []
    for name, weight in _weights(model.backbone, seen, model.sites.mux[0], model.sites.demux[0]):
        if min(weight.shape[:2]) >= model.n:
            rows, columns = (_owners(size, blocks, weight.device) for size in weight.shape[:2])
            _keep(weight, rows.unsqueeze(1) == columns)
            changed.append(name)
    if not changed:
        raise MuxwrapError(
            f"start_apart(model): no linear or convolutional weight of {model.n} features or more between the "
            f"{model.sites.mux[0]} and the {model.sites.demux[0]}"
        )
    return changed


def _weights(backbone: nn.Module, seen: Trace, mux: Site, demux: Site) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights ``[out, in, ...]`` of what runs between the sites, by their names in the backbone."""
    first, last = _moment(seen, mux), _moment(seen, demux)
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    found = (visit.module for visit in seen.visits if first <= visit.entered and visit.left <= last)
    for weight in dict.fromkeys(weight for module in found for weight in _of_layer(module)):
        yield names[id(weight)], weight


def _of_layer(module: nn.Module) -> Iterator[Tensor]:
    if isinstance(module, nn.MultiheadAttention):  # its own projections are no calls of modules
        if module.in_proj_weight is not None:
            yield module.in_proj_weight
        yield module.out_proj.weight
    elif isinstance(module, nn.Linear) or (
        isinstance(module, _ConvNd) and module.groups == 1 and not module.transposed
    ):
        yield module.weight


def _moment(seen: Trace, site: Site) -> int:
    visit: Visit | None = seen.at(site.path)
    if visit is None:
        raise MuxwrapError(f"start_apart(example_input=...): the {site} is not reached once on this example")
    return visit.entered if site.side == "input" else visit.left


def _owners(features: int, blocks: list[int], device: torch.device) -> Tensor:
    """Return the instance to which each of a layer's features belongs."""
    n, dim = len(blocks), sum(blocks)
    if features % dim:
        return torch.arange(features, device=device) * n // features
    owners = torch.repeat_interleave(torch.arange(n, device=device), torch.tensor(blocks, device=device))
    return owners.repeat(features // dim)


def _keep(weight: Tensor, kept: Tensor) -> None:
    """Zero what is not kept ``[out, in]`` and enlarge the rest, so that every output keeps its variance."""
    gain = (kept.shape[1] / kept.sum(1).clamp(min=1)).sqrt()
    factor = (kept * gain.unsqueeze(1)).to(weight.dtype)
    weight.mul_(factor.view(*kept.shape, *[1] * (weight.ndim - 2)))
