"""How a tensor of the backbone is laid out for a strategy or a demuxer, and back."""

from __future__ import annotations

import math

from torch import Tensor

from muxwrap._util.sizes import moved
from muxwrap.site import Sees, Site


def feature_size(shape: tuple[int, ...], axis: int | None) -> int:
    """Return the size of the feature axis of a tensor ``[rows, ...]``; of one number per row it is 1."""
    return math.prod(shape[1:]) if axis is None or len(shape) == 1 else shape[axis]


def features_last(x: Tensor, axis: int | None, lead: int) -> Tensor:
    """Move the feature axis to the end; one number per row gets an axis of its own.

    Args:
        x: ``[*lead axes, ...]``, where the backbone's own tensor has one leading axis, the rows.
        axis: as in :class:`Site`.
        lead: 1 for ``[g, ...]``, 2 for ``[g, n, ...]``.
    """
    if x.ndim == lead:
        return x.unsqueeze(-1)
    if axis is None:
        return x.flatten(lead)
    return x if axis == -1 else moved(x, axis + lead - 1 if axis > 0 else axis, -1)


def features_back(x: Tensor, like: tuple[int, ...], axis: int | None, lead: int) -> Tensor:
    """Undo :func:`features_last`; ``like`` is the shape of the backbone's own tensor."""
    if len(like) == 1:
        return x.squeeze(-1)
    if axis is None:
        return x.unflatten(-1, like[1:]) if len(like) > 2 else x
    return x if axis == -1 else moved(x, -1, axis + lead - 1 if axis > 0 else axis)


def for_strategy(x: Tensor, site: Site, sees: Sees) -> Tensor:
    """Lay grouped rows ``[g, n, ...]`` out as a strategy takes them.

    Images have their channels first, everything else its features last; a grid of tokens becomes a sequence.
    """
    if sees == "image":
        return moved(x, -1, 2) if site.axis == -1 else x
    x = features_last(x, site.axis, lead=2)
    return x.flatten(2, -2) if sees == "tokens" else x


def from_strategy(mixture: Tensor, like: tuple[int, ...], site: Site, sees: Sees) -> Tensor:
    """Undo :func:`for_strategy`; ``like`` is the shape of the backbone's own tensor."""
    if sees == "image":
        return moved(mixture, 1, -1) if site.axis == -1 else mixture
    if sees == "tokens":
        grid = like[1:-1] if site.axis == -1 else like[2:]
        mixture = mixture.unflatten(1, grid)
    return features_back(mixture, like, site.axis, lead=1)


def laid_like(x: Tensor, like: Tensor) -> Tensor:
    """Lay a tensor out in memory in the order of its axes where the backbone's own was so, which ``view`` asks for."""
    return x.contiguous() if like.is_contiguous() else x
