"""What passes where rows are mixed: how large the instances are, how large their mixtures, and how near to the dtype's end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from muxwrap._util.examples import quiet, run
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex, check_wrapped


@dataclass(frozen=True)
class MixtureStatistics:
    """Numbers over all rows of some batches; those that are not finite are counted and else left out.

    Args:
        rows: how many were seen.
        largest: the largest number of an instance, by its absolute value.
        instance: root mean square of an instance's numbers.
        mixture: of a mixture's numbers.
        largest_mixture: the largest number of a mixture.
        headroom: what the dtype can hold, as a multiple of the largest number of a mixture.
        uneven: the largest ratio between an instance's size (root mean square) and the median of all sizes.
        not_finite: rows with NaN or infinity.
    """

    rows: int
    largest: float
    instance: float
    mixture: float
    largest_mixture: float
    headroom: float
    uneven: float
    not_finite: int

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name, as loggers take them: ``logger.log_metrics(statistics.to_dict())``."""
        return asdict(self)


def mixture_statistics(model: Multiplex, batches: Iterable[Any]) -> MixtureStatistics:
    """Run a wrapped model on batches, and measure the instances and mixtures at its mux sites.

    Args:
        model: a wrapped model; measured in evaluation mode, its mode is put back.
        batches: tensors, tuples of arguments or dicts of keyword arguments; read once.

    Raises:
        MuxwrapError: the model is not wrapped, its mixtures have tokens of their own, or no row is finite.
    """
    check_wrapped(model, "mixture_statistics")
    if model.strategy.places_tokens:
        raise MuxwrapError(
            f"mixture_statistics(model): {model.strategy.name} keeps the instances at places of their own and sums nothing; "
            "give a model with another strategy"
        )
    seen = _Seen()
    sites = [model.backbone.get_submodule(site.path) for site in model.sites.mux]
    # A stem that somebody looks at is run at once, and not some rows at a time.
    handles = [model.strategy.register_forward_hook(seen), *(site.register_forward_hook(_look) for site in sites)]
    try:
        with quiet(model):
            for batch in batches:
                run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen.statistics()


class _Seen:
    """A hook of a strategy: sizes (root mean square) and largest numbers of every instance and mixture."""

    def __init__(self) -> None:
        self.instances: list[Tensor] = []
        self.mixtures: list[Tensor] = []
        self.end = 0.0

    def __call__(self, _module: Any, args: Any, mixture: Tensor) -> None:
        self.instances.append(_measured(args[0].flatten(0, 1)))
        self.mixtures.append(_measured(mixture))
        self.end = torch.finfo(mixture.dtype).max

    def statistics(self) -> MixtureStatistics:
        all_rows = torch.cat([torch.empty(0, 2), *self.instances])
        rows = all_rows[all_rows.isfinite().all(1)]
        if not len(rows):
            raise MuxwrapError(
                "mixture_statistics(batches): no row that is finite; give batches as the model is called with"
            )
        mixtures = torch.cat(self.mixtures)
        mixtures = mixtures[mixtures.isfinite().all(1)]
        highest = float(mixtures[:, 1].max()) if len(mixtures) else float("inf")
        median = float(rows[:, 0].median())
        return MixtureStatistics(
            rows=len(all_rows),
            largest=float(rows[:, 1].max()),
            instance=float(rows[:, 0].square().mean().sqrt()),
            mixture=float(mixtures[:, 0].square().mean().sqrt()),
            largest_mixture=highest,
            headroom=self.end / highest if highest else float("inf"),
            uneven=float(rows[:, 0].max()) / median if median else float("inf"),
            not_finite=len(all_rows) - len(rows),
        )


def _measured(x: Tensor) -> Tensor:
    """Return the root mean square and the largest number of every row: ``[rows, 2]``."""
    flat = x.detach().flatten(1).float()
    return torch.stack([flat.square().mean(1).sqrt(), flat.abs().amax(1)], 1).cpu()


def _look(*_: Any) -> None:
    pass
