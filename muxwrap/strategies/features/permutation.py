"""A shuffle of the coordinates for every index."""

from __future__ import annotations

from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import refuse_learning
from muxwrap.strategies.keys import permutations


@registry.register("permutation")
class Permutation(Strategy):
    """φ_i(x) = x with its coordinates in the order of a fixed random permutation π_i.

    A usual binding of vector symbolic architectures (Kanerva 2009, "Hyperdimensional computing"), orthogonal without
    a multiplication. Positive features (after a ReLU) stay positive, but their common mean adds up over the instances,
    which signs would cancel.
    Cost: dim gathered numbers per instance and position.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        learnable: refused, an order is not differentiable.
        scale: see :class:`~muxwrap.strategies.Strategy`.
        seed: fixes the permutations.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or ``learnable=True``.
    """

    invertible = True
    isometric = True
    additive = True
    keys: Tensor

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        refuse_learning("permutation", learnable, "its keys are integers")
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.set_keys("keys", permutations(seed, n, dim))  # int64, which a cast of the model leaves alone

    def bind(self, x: Tensor) -> Tensor:
        """Reorder the coordinates of instance i by π_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        return _reorder(x, self._per_index(self.keys, x))

    def unbind(self, z: Tensor) -> Tensor:
        """Reorder entry i by π_i⁻¹: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        # Sorted here (n·dim numbers, whatever the batch) and not stored, so that it follows keys that are loaded.
        return _reorder(z, self._per_index(self.keys.argsort(dim=1), z))

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Accumulate instance by instance, which holds no bound copies."""
        mixture = _reorder(x[:, 0], self.keys[start]) * self.factor
        for i in range(1, x.shape[1]):  # scaled one by one: the sum of all may be beyond what half precision holds
            mixture = mixture.add(_reorder(x[:, i], self.keys[start + i]), alpha=self.factor)
        return mixture

    def _per_index(self, order: Tensor, x: Tensor) -> Tensor:
        return order.view(self.n, *[1] * (x.ndim - 3), self.dim)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """Take the last axis of ``x`` in ``order``, which broadcasts to it."""
    # gather: about three times faster here than index_select on the last axis, which copies numbers one by one.
    return x.gather(-1, order.expand_as(x))
