"""Every instance keeps its own coordinates and drops the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from muxwrap.errors import MuxwrapError
from muxwrap.strategies.base import registry
from muxwrap.strategies.checks import check_room
from muxwrap.strategies.features._elementwise import Elementwise
from muxwrap.strategies.features._side_by_side import at_coordinate
from muxwrap.strategies.keys import per_index


@registry.register("binary")
class Binary(Elementwise):
    """φ_i(x) = x ⊙ b_i, b_i being 1 on the i-th of n consecutive chunks of coordinates (DataMUX's code, binary Hadamard).

    A chunk is dim // n long and the last one takes the remainder. What lies outside an instance's chunk is lost, what
    lies inside comes through untouched. ``unbind`` is the adjoint: it cuts the chunk out again.
    Cost: without overlap and learning, dim copied numbers per *mixture* and position; otherwise as ``hadamard``.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        overlap: coordinates by which a chunk reaches into the next one, or into the one before and the next one (0 to
            dim // n each; the published code reaches into both).
        learnable: train the keys, from 0 and 1 and without constraint, so that the chunks may grow into each other.
        scale: ``"sum"`` by default, since chunks lie side by side and do not add up; the published code uses
            ``"mean"``, which makes a mixture n times weaker than its instances.
        seed: accepted, but nothing is drawn.

    Attributes:
        slot_sizes: features per instance, None where chunks overlap.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``scale`` or ``overlap``, or n > dim.
    """

    disjoint = True

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        overlap: int | Sequence[int] = 0,
        learnable: bool = False,
        scale: str | float = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_room("binary", n, dim)
        reach = (0, overlap) if isinstance(overlap, int) else tuple(overlap)
        if len(reach) != 2 or not all(0 <= each <= dim // n for each in reach):
            raise MuxwrapError(
                f"binary(n={n}, dim={dim}, overlap={overlap}): a chunk has {dim // n} coordinates and reaches into its "
                f"neighbours only; take 0 <= overlap <= {dim // n}, or two such numbers"
            )
        before, after = reach
        self.overlap = overlap if isinstance(overlap, int) else (before, after)
        self.disjoint = (before, after) == (0, 0) or n == 1
        self.chunks = [dim // n] * (n - 1) + [dim - (n - 1) * (dim // n)]
        self.slot_sizes = self.chunks if self.disjoint else None
        keys = torch.zeros(n, dim, device="cpu", dtype=torch.float32)
        for i, size in enumerate(self.chunks):
            start = i * (dim // n)
            keys[i, max(0, start - before) : start + size + after] = 1.0
        self.set_keys("keys", keys)

    def unbind(self, z: Tensor) -> Tensor:
        """Multiply entry i by b_i once more (the adjoint): ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return z * per_index(self.keys, z)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Put the chunks side by side, which reads one instance's worth of memory; else accumulate."""
        if self.learnable or not self.disjoint:
            return super().mix(x, start)
        first = at = start * self.chunks[0]
        cut = []
        for i, size in enumerate(self.chunks[start : start + x.shape[1]]):
            cut.append(x[:, i].narrow(-1, at, size))
            at += size
        return at_coordinate(torch.cat(cut, dim=-1), first, self.dim) * self.factor
