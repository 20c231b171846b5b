"""What the strategies share that multiply an instance by a vector of keys."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.strategies.base import Strategy
from muxwrap.strategies.keys import divisors, per_index


class Elementwise(Strategy):
    """φ_i(x) = x ⊙ k_i. Not a strategy by itself: a subclass draws ``keys`` ``[n, dim]``.

    Cost: dim multiplications per instance and position, and one pass over the instances' memory.
    """

    additive = True
    keys: Tensor

    def bind(self, x: Tensor) -> Tensor:
        """Multiply instance i by k_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return x * per_index(self.keys, x)

    def unbind(self, z: Tensor) -> Tensor:
        """Divide entry i by k_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``.

        Exact for one bound instance; on a mixture, keys near zero amplify the other instances.
        """
        return z / divisors(self.keys, z)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Accumulate instance by instance, which moves n times less memory than binding all of them first."""
        keys = (self.keys[start : start + x.shape[1]] * self.factor).to(x.dtype)
        mixture = x[:, 0] * keys[0]
        for i in range(1, x.shape[1]):
            mixture = torch.addcmul(mixture, x[:, i], keys[i])
        return mixture
