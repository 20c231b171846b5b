"""Which features of a layer belong to which instance, where a strategy puts the instances side by side."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped


def features_per_instance(model: Multiplex, call: str) -> list[int]:
    """Return how many features each instance has in a mixture.

    Raises:
        MuxwrapError: the model is not wrapped, or its strategy does not put the instances side by side.
    """
    check_wrapped(model, call)
    sizes: list[int] | None = getattr(model.strategy, "slot_sizes", None)
    if sizes is None:
        raise MuxwrapError(
            f"{call}(model): {type(model.strategy).__name__} adds the instances up in the same features, so no weight of the "
            "trunk belongs to one of them; wrap with strategy='slots'"
        )
    return sizes


def instance_slices(features: int, sizes: list[int]) -> list[list[slice]]:
    """Return the slice of every instance, once for every ``sum(sizes)`` features of a layer.

    Feature f of a layer with a multiple of dim features belongs to the instance that has coordinate ``f mod dim``; a layer
    of another width is cut into n nearly equal slices.

    Args:
        features: of the layer.
        sizes: features of each instance in a mixture; their sum is dim.

    Returns:
        ``features / dim`` lists (one where that is not a whole number) of n slices.
    """
    n, dim = len(sizes), sum(sizes)
    if features % dim:
        bounds = [math.ceil(i * features / n) for i in range(n + 1)]
        return [[slice(a, b) for a, b in pairwise(bounds)]]
    ends = list(accumulate(sizes, initial=0))
    starts = range(0, features, dim)
    return [[slice(start + a, start + b) for a, b in pairwise(ends)] for start in starts]
