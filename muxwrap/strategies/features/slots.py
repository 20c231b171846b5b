"""Every instance gets its own part of the mixture, and learns what to put there."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap._util.sizes import moved
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_room
from muxwrap.strategies.features._side_by_side import at_coordinate
from muxwrap.strategies.keys import rotations


@registry.register("slots")
class Slots(Strategy):
    """φ_i(x) = W_i x written into slot i of the mixture, W_i a map from dim to about dim / n, learned.

    The slots lie side by side, so that instances never disturb each other in the mixture, and training decides what is
    worth keeping of each. (The code of DataMUX's theory, Q_i the i-th run of coordinates; RevMUX compresses in the
    same way.) At the start the W_i are the row blocks of one random orthogonal matrix. Where n does not divide dim the
    first dim mod n slots are one coordinate longer. ``unbind`` is the adjoint W_iᵀ, at the start a projection.
    Cost: dim²/n multiplications per instance and position, so dim² per mixed token whatever n is; dim² numbers in the
    keys.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        learnable: train the maps (the default here).
        scale: ``"sum"`` by default: slots do not add up, and a mixture has the mean energy of its instances.
        seed: fixes the maps at the start.

    Attributes:
        slot_sizes: features per instance.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, n > dim, or a ``dim`` above the limit for dense matrices.
    """

    disjoint = True
    additive = True
    keys: Tensor

    def __init__(self, n: int, dim: int, *, learnable: bool = True, scale: str | float = "sum", seed: int = 0) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("slots", dim)
        check_room("slots", n, dim)
        self.slot_sizes = [dim // n + (i < dim % n) for i in range(n)]
        self.set_keys("keys", rotations(seed, 1, dim)[0])  # [dim, dim]: W_0, W_1, ... as rows

    def bind(self, x: Tensor) -> Tensor:
        """Write W_i x_i into slot i and zeros elsewhere: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        bound, start = [], 0
        for i, rows in enumerate(self._maps(x)):
            bound.append(at_coordinate(x[:, i] @ rows.T, start, self.dim))
            start += len(rows)
        return torch.stack(bound, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Apply W_iᵀ to slot i of entry i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        slots = z.split(self.slot_sizes, dim=-1)
        return torch.stack([slots[i][:, i] @ rows for i, rows in enumerate(self._maps(z))], dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Put the slots side by side; nothing wider than one mixture is held."""
        sizes = self.slot_sizes[start : start + x.shape[1]]
        first = sum(self.slot_sizes[:start])
        keys = self.keys.to(x.dtype)[first : first + sum(sizes)]
        long = sizes.count(sizes[0])  # so many slots have as many rows as the first, those after them one less
        rows = long * sizes[0]
        mixture = _side_by_side(x[:, :long], keys[:rows])
        if long < len(sizes):
            mixture = torch.cat([mixture, _side_by_side(x[:, long:], keys[rows:])], dim=-1)
        return at_coordinate(mixture if self.factor == 1 else mixture * self.factor, first, self.dim)

    @torch.no_grad()
    def start_alike(self) -> None:
        """Let every W_i begin as W_0, in place, so that all instances are read alike."""
        first = self.keys[: self.slot_sizes[0]].clone()
        for rows in self.keys.split(self.slot_sizes):
            rows.copy_(first[: len(rows)])

    def _maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return W_0, W_1, ... (slot size x dim each) in the dtype of ``x``."""
        return self.keys.to(x.dtype).split(self.slot_sizes)


def _side_by_side(x: Tensor, maps: Tensor) -> Tensor:
    """Apply one map per instance: ``[g, k, ..., dim]`` and ``[k · rows, dim]`` give ``[g, ..., k · rows]``."""
    # Plain methods: einops takes 5 us per call, which is a tenth of the mixing of a few single positions.
    maps = maps.unflatten(0, (x.shape[1], -1))
    channels = moved(x, -1, 2)
    if x.ndim > 3 and channels.is_contiguous():  # a feature map with its channels first: mixed where it lies
        slots = (maps @ channels.flatten(3)).flatten(1, 2)
        return moved(slots.unflatten(-1, channels.shape[3:]), 1, -1)
    if x.ndim == 3:  # one position: one product per instance over all groups, and not one per group and instance
        return (x.movedim(1, 0) @ maps.transpose(1, 2)).movedim(0, 1).flatten(1)
    slots = (x.flatten(2, -2) @ maps.transpose(1, 2)).movedim(1, 2).flatten(2)
    return slots.unflatten(1, x.shape[2:-1])
