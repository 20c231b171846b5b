"""Slots that a chain of small nets couples, and that can be uncoupled exactly: for frozen backbones."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import check_dim
from muxwrap.strategies import keys
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_dense, check_room
from muxwrap.strategies.features._side_by_side import at_coordinate


@registry.register("reversible")
class Reversible(Strategy):
    """φ_i(x) = W_i x in a slot of its own, and the slots are coupled: y_1 = x_1 + f_1(x_2), y_2 = x_2 + f_2(y_1) for n = 2.

    RevMUX (Xu et al., EMNLP 2024, arXiv:2410.04519, section 3): a backbone that stays frozen reads compressed instances which
    know of each other, and since every step only adds what a net makes of another slot, all can be taken back by the same
    nets: the demuxer ``uncouple`` does, and is the default here. For n slots the chain is

        y_1 = x_{n-1} + f_1(x_n), y_k = x_{n-k} + f_k(y_{k-1}) for 1 < k < n, y_n = x_n + f_n(y_{n-1}),

    with f_k = ReLU, linear, ReLU, linear from right to left, and the mixture is y_1 ... y_n side by side. At the start the W_i
    are the row blocks of one random orthogonal matrix. Where n does not divide dim the first dim mod n slots are one
    coordinate longer. The published dropout in f_k is left out: the demuxer would take back another map than was applied.
    Cost: dim²/n multiplications per instance and position for W_i, and 2·hidden·dim/n for f_i.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, up to 8192.
        hidden: features between the two layers of a net; ``dim`` by default, as published.
        learnable: train maps and nets (the default here).
        scale: ``"sum"`` by default, as for slots.
        seed: fixes maps and nets at the start.

    Attributes:
        slot_sizes: features per instance.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``hidden`` or ``scale``, n > dim, or a ``dim`` above the limit for dense matrices.
    """

    own_demuxer: ClassVar[str | None] = "uncouple"
    keys: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        hidden: int | None = None,
        learnable: bool = True,
        scale: str | float = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        check_dense("reversible", dim)
        check_room("reversible", n, dim)
        self.hidden = hidden if hidden is None else check_dim(hidden)
        self.slot_sizes = [dim // n + (i < dim % n) for i in range(n)]
        rng = keys.generator(seed)
        self.set_keys("keys", keys.rotations(rng, 1, dim)[0])  # [dim, dim]: W_1, W_2, ... as rows
        inner = dim if hidden is None else hidden
        for k, (source, target) in enumerate(self._chain()):
            before, after = self.slot_sizes[source], self.slot_sizes[target]
            for name, rows, columns in (("into", inner, before), ("out", after, inner)):
                self.set_keys(f"{name}_{k}", keys.normal(rng, rows, columns) * columns**-0.5)
                self.set_keys(f"{name}_{k}_bias", torch.zeros(rows, device="cpu", dtype=torch.float32))

    def bind(self, x: Tensor) -> Tensor:
        """Write W_i x_i into slot i and zeros elsewhere: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        starts = [sum(self.slot_sizes[:i]) for i in range(self.n)]
        bound = [at_coordinate(slot, start, self.dim) for slot, start in zip(self._slots(x), starts, strict=True)]
        return torch.stack(bound, dim=1)

    def combine(self, bound: Tensor) -> Tensor:
        """Couple the slots and scale: ``[g, n, ..., dim] -> [g, ..., dim]``."""
        parts = bound.split(self.slot_sizes, dim=-1)
        return self.couple([part[:, i] for i, part in enumerate(parts)])

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Couple the slots of ``[g, n, ..., dim]``, of which no bound copies are held."""
        return self.couple(self._slots(x))

    def couple(self, slots: list[Tensor]) -> Tensor:
        """Return the mixture ``[g, ..., dim]`` of slots ``[g, ..., size]``."""
        coupled = list(slots)
        for k, (source, target) in enumerate(self._chain()):
            coupled[target] = coupled[target] + self._net(k, coupled[source])
        return torch.cat([coupled[i] for i in self._order()], dim=-1) * self.factor

    def uncouple(self, mixture: Tensor) -> list[Tensor]:
        """Take all back: the slots ``[g, ..., size]`` of a mixture ``[g, ..., dim]``."""
        parts = (mixture / self.factor).split([self.slot_sizes[i] for i in self._order()], dim=-1)
        slots = [parts[self._order().index(i)] for i in range(self.n)]
        for k, (source, target) in reversed(list(enumerate(self._chain()))):
            slots[target] = slots[target] - self._net(k, slots[source])
        return slots

    def _chain(self) -> list[tuple[int, int]]:
        """Return which slot a net reads, and to which it adds, in their order: each is complete when it is read."""
        order = self._order()
        return list(zip([self.n - 1, *order], order, strict=False)) if self.n > 1 else []

    def _order(self) -> list[int]:
        """Return the slots in the order in which they lie in the mixture: the last but one first, the last one last."""
        return [*range(self.n - 2, -1, -1), self.n - 1]

    def _slots(self, x: Tensor) -> list[Tensor]:
        maps = self.keys.to(x.dtype).split(self.slot_sizes)
        return [x[:, i] @ rows.T for i, rows in enumerate(maps)]

    def _net(self, k: int, x: Tensor) -> Tensor:
        for name in ("into", "out"):
            weight, bias = (getattr(self, f"{name}_{k}{end}").to(x.dtype) for end in ("", "_bias"))
            x = F.relu(F.linear(x, weight, bias))
        return x
