"""Every instance gets its own part of the mixture, and learns what to put there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_room
from muxwrap.strategies.features.orthogonal import random_rotations


@registry.register("slots")
class Slots(Strategy):
    """φ_i(x) = W_i x written into block i of the mixture, W_i a map from dim to about dim / n, learned.

    The blocks lie side by side, so that instances never disturb each other in the mixture, and training decides what is
    worth keeping of each. (The code of DataMUX's theory, Q_i the i-th block of coordinates; RevMUX compresses in the
    same way.) At the start the W_i are the row blocks of one random orthogonal matrix. Where n does not divide dim the
    first dim mod n blocks are one coordinate longer. ``unbind`` is the adjoint W_iᵀ, at the start a projection.
    Cost: dim²/n multiplications an instance and position, so dim² a mixed token whatever n is; dim² numbers kept.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        learnable: train the maps (the default here).
        scale: ``"sum"`` by default: blocks do not add up, and a mixture has the mean energy of its instances.
        seed: fixes the maps at the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, n > dim, or a ``dim`` above the limit for dense matrices.
    """

    disjoint = True
    additive = True
    keys: Tensor
    blocks: list[int]

    def __init__(self, n: int, dim: int, *, learnable: bool = True, scale: str | float = "sum", seed: int = 0) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("slots", dim)
        check_room("slots", n, dim)
        self.blocks = [dim // n + (i < dim % n) for i in range(n)]
        self.set_keys("keys", random_rotations(1, dim, self.generator())[0])  # [dim, dim]: W_0, W_1, ... as rows

    def bind(self, x: Tensor) -> Tensor:
        """Write W_i x_i into block i and zeros elsewhere: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        bound, start = [], 0
        for i, rows in enumerate(self._maps(x)):
            bound.append(at_coordinate(x[:, i] @ rows.T, start, self.dim))
            start += len(rows)
        return torch.stack(bound, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Apply W_iᵀ to block i of entry i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        parts = z.split(self.blocks, dim=-1)
        return torch.stack([parts[i][:, i] @ rows for i, rows in enumerate(self._maps(z))], dim=1)

    def part(self, x: Tensor, start: int) -> Tensor:
        """Put the blocks side by side; nothing wider than one mixture is held."""
        blocks = self.blocks[start : start + x.shape[1]]
        first = sum(self.blocks[:start])
        keys = self.keys.to(x.dtype)[first : first + sum(blocks)]
        long = blocks.count(blocks[0])  # so many blocks have as many rows as the first, those after them one less
        rows = long * blocks[0]
        mixture = _side_by_side(x[:, :long], keys[:rows].unflatten(0, (long, -1)))
        if long < len(blocks):
            shorter = _side_by_side(x[:, long:], keys[rows:].unflatten(0, (len(blocks) - long, -1)))
            mixture = torch.cat([mixture, shorter], dim=-1)
        return at_coordinate(mixture if self.factor == 1 else mixture * self.factor, first, self.dim)

    @torch.no_grad()
    def start_alike(self) -> None:
        """Let every W_i begin as W_0, so that all instances are read alike."""
        first = self.keys[: self.blocks[0]].clone()
        for block in self.keys.split(self.blocks):
            block.copy_(first[: len(block)])

    def _maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return W_0, W_1, ... (block size x dim each) in the dtype of ``x``."""
        return self.keys.to(x.dtype).split(self.blocks)


def at_coordinate(block: Tensor, start: int, dim: int) -> Tensor:
    """Set features into ``dim`` features from coordinate ``start`` on, zeros around them."""
    return block if block.shape[-1] == dim else F.pad(block, (start, dim - start - block.shape[-1]))


def _side_by_side(x: Tensor, maps: Tensor) -> Tensor:
    """Apply a map an instance: ``[g, k, ..., dim]`` and ``[k, rows, dim]`` give ``[g, ..., k · rows]``."""
    channels = x.movedim(-1, 2)
    if x.ndim > 3 and channels.is_contiguous():  # a feature map seen from its channels: mixed where it lies
        blocks = (maps @ channels.flatten(3)).flatten(1, 2)
        return blocks.unflatten(-1, channels.shape[3:]).movedim(1, -1)
    if x.ndim == 3:  # one position: a product an instance over all groups, and not one a group and instance
        return (x.movedim(1, 0) @ maps.mT).movedim(0, 1).flatten(1)
    blocks = (x.flatten(2, -2) @ maps.mT).movedim(1, 2).flatten(2)
    return blocks.unflatten(1, x.shape[2:-1])
