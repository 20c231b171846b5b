"""Which rows share a mixture where a model is trained as an ensemble of its indices."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError


def mimo_rows(
    rows: int, n: int, repetitions: int = 1, same: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Deal a batch to the indices of its mixtures as MIMO does: every index gets the whole batch, in an order of its own.

    Train on ``order = mimo_rows(len(x), model.n)`` with ``criterion(model(x[order]), y[order])``, and predict with
    ``model.ensemble(x)``. A batch makes ``rows · repetitions`` mixtures, so a step costs ``repetitions`` of the bare model's.

    Source: Havasi et al., "Training independent subnetworks for robust prediction", ICLR 2021 (2010.06610), sections 2
    and 3: batch repetition and input repetition ρ.

    Args:
        rows: of the batch.
        n: instances per mixture.
        repetitions: how often every index sees every row of the batch, which makes the gradient less noisy.
        same: share of the mixtures, 0 to 1, that hold one row n times (ρ). At 0 the members are the most independent;
            networks with little spare capacity want more.
        generator: of the random numbers.

    Returns:
        Indices into the batch, ``[rows · repetitions · n]``: n after n share a mixture.

    Raises:
        MuxwrapError: a number is out of its range.
    """
    call = f"mimo_rows(rows={rows}, n={n}, repetitions={repetitions}, same={same})"
    if min(rows, n, repetitions) < 1:
        raise MuxwrapError(f"{call}: rows, n and repetitions must be at least 1")
    if not 0 <= same <= 1:
        raise MuxwrapError(f"{call}: same is a share of the mixtures, from 0 to 1")
    mixtures = rows * repetitions
    order = torch.stack([torch.randperm(mixtures, generator=generator) % rows for _ in range(n)], dim=1)
    alike = torch.randperm(mixtures, generator=generator)[: round(same * mixtures)]
    order[alike] = order[alike, :1]
    return order.flatten()
