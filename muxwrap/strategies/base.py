"""What a strategy is: φ_i for every index, how the bound instances are combined, and the way back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError, check_count, check_dim, known_names
from muxwrap.registry import Registry
from muxwrap.site import Sees

S = TypeVar("S", bound="Strategy")
_SCALES = {"mean": -1.0, "sqrt": -0.5, "sum": 0.0}  # the exponent of n
_SEEN: dict[Sees, str] = {
    "features": "[groups, {n}, ..., {dim}]",
    "tokens": "tokens [groups, {n}, L, {dim}]",
    "image": "images [groups, {n}, {dim}, H, W]",
}


class Strategy(nn.Module, ABC):
    """Binds n instances to their index and combines them: ``m = s · Σ_i φ_i(x_i)``.

    A strategy of your own subclasses this, draws its keys in ``__init__`` with :meth:`set_keys`, and implements
    :meth:`bind` and :meth:`unbind`; with ``@muxwrap.register_strategy("name")`` it works by name, saves and loads.
    Features are the last axis; where a model has them elsewhere (channels of a feature map), the caller moves them.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        learnable: train the keys; otherwise they are buffers, saved but fixed.
        scale: ``s``: ``"mean"`` (1/n, the paper's), ``"sqrt"`` (1/√n, keeps the variance of independent instances),
            ``"sum"`` (1) or a number.
        seed: fixes the keys; the global random state is neither read nor moved.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``.
    """

    name: ClassVar[str]
    sees: ClassVar[Sees] = "features"
    """What a strategy needs to see of an instance: one position's ``"features"``, a sequence of ``"tokens"`` or an
    ``"image"``."""
    # Facts of the class; an instance whose options change one sets its own (binary's overlap, learned orthogonal keys).
    invertible: bool = False
    """Whether :meth:`unbind` is the inverse of :meth:`bind` at any keys; otherwise it is the adjoint."""
    norm_preserving: bool = False
    """Whether fixed keys keep the norm of every instance; :attr:`isometric` is the answer for this instance."""
    disjoint: bool = False
    """Whether fixed keys send the instances to subspaces that do not meet, so that a mixture loses nothing more."""
    reads_mask: ClassVar[bool] = False
    """Whether :meth:`forward` takes a mask ``[g, n, L]`` of 0 and 1 beside the instances and leaves the padding out by
    itself. For any other strategy padding is set to zero where instances are mixed."""
    additive: bool = False
    """Whether :meth:`part` takes some of the instances, so that a mixture is accumulated while they are made."""
    blocks: list[int] | None = None
    """Sizes of the blocks of features in which the instances lie one behind the other, where they do."""

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__()
        self.n = check_count(n)
        self.dim = check_dim(dim)
        self.learnable = learnable
        self.scale = scale
        self.seed = seed
        self.factor = scale_factor(scale, n)

    @property
    def width(self) -> int:
        """Features of the mixture; where they are not :attr:`dim`, the stem is widened."""
        return self.dim

    @property
    def isometric(self) -> bool:
        """Whether :meth:`bind` keeps norms, which trained keys need not."""
        return self.norm_preserving and not self.learnable

    @abstractmethod
    def bind(self, x: Tensor) -> Tensor:
        """Apply φ_i to instance i.

        Args:
            x: ``[g, n, ..., dim]``, g groups of n instances.

        Returns:
            ``[g, n, ..., dim]``.
        """

    @abstractmethod
    def unbind(self, z: Tensor) -> Tensor:
        """Apply φ_i⁻¹ (if :attr:`invertible`) or the adjoint φ_iᵀ to entry i.

        Args:
            z: ``[g, n, ..., dim]``.

        Returns:
            ``[g, n, ..., dim]``.
        """

    def combine(self, bound: Tensor) -> Tensor:
        """Sum the bound instances and scale: ``[g, n, ..., dim] -> [g, ..., dim]``."""
        return bound.sum(1) * self.factor

    def mix(self, x: Tensor) -> Tensor:
        """Return ``combine(bind(x))``; a strategy may override this with a form that never holds n bound copies."""
        return self.part(x, 0)

    def part(self, x: Tensor, start: int) -> Tensor:
        """Return what some instances add to the mixture; overridden where :attr:`additive`.

        Args:
            x: ``[g, k, ..., dim]``, k of the n instances; all of them unless :attr:`additive`.
            start: the index of the first one.

        Returns:
            ``[g, ..., dim]``; the parts add up to the mixture.
        """
        return self.combine(self.bind(x))

    def separate(self, mixture: Tensor) -> Tensor:
        """Undo the scale and unbind every index from one mixture: ``[g, ..., dim] -> [g, n, ..., dim]``.

        Exact where the instances lie in subspaces that do not meet; elsewhere each comes back with crosstalk from the
        others.
        """
        spread = mixture.unsqueeze(1).expand(-1, self.n, *mixture.shape[1:])
        return self.unbind(spread) / self.factor

    def fits(self, dim: int) -> bool:
        """Whether :meth:`separate` works on ``dim`` features: on those that the keys were drawn for."""
        return dim == self.dim

    def start_alike(self) -> None:
        """Let learned φ_i begin equal but for their place, in place; overridden where there is something to learn apart."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``[g, n, ..., dim]`` into ``[g, ..., dim]``, images ``[g, n, dim, H, W]`` into ``[g, width, H, W]``.

        Raises:
            MuxwrapError: see :meth:`check_instances`.
        """
        self.check_instances(x)
        return self.mix(x)

    def check_instances(self, x: Tensor) -> None:
        """Refuse what :meth:`forward` cannot mix.

        Raises:
            MuxwrapError: the number of instances, features or axes is not that of what the strategy :attr:`sees`.
        """
        axes, at = {"features": (max(x.ndim, 3), -1), "tokens": (4, -1), "image": (5, 2)}[self.sees]
        if x.ndim != axes or x.shape[1] != self.n or x.shape[at] != self.dim:
            mixed = _SEEN[self.sees].format(n=self.n, dim=self.dim)
            raise MuxwrapError(
                f"{type(self).__name__}(n={self.n}, dim={self.dim}) got {list(x.shape)}; it mixes {mixed}"
            )

    def set_keys(self, name: str, value: Tensor) -> None:
        """Keep keys as a parameter if they are to be learned, as a saved buffer otherwise."""
        value = value.contiguous()  # safetensors saves nothing else
        if self.learnable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator at :attr:`seed`: draw in float32 from it, and equal seeds give equal keys."""
        return torch.Generator("cpu").manual_seed(self.seed)

    def normal(self, *shape: int) -> Tensor:
        """Draw independent standard normal numbers, the same ones whatever torch's default device and dtype are."""
        return torch.randn(*shape, generator=self.generator(), device="cpu", dtype=torch.float32)

    def extra_repr(self) -> str:
        """Say the facts that ``print`` shows."""
        return f"n={self.n}, dim={self.dim}, scale={self.scale!r}, learnable={self.learnable}"


registry: Registry[Strategy] = Registry("strategy", Strategy)  # type: ignore[type-abstract]


def scale_factor(scale: str | float, n: int) -> float:
    """Return the number that ``scale`` stands for with n instances.

    Raises:
        MuxwrapError: an unknown name, or a number that cannot be undone (zero, infinite or not a number).
    """
    if isinstance(scale, str):
        if scale not in _SCALES:
            raise MuxwrapError(f"scale={scale!r} is unknown; {known_names(scale, _SCALES)}, or give a number")
        return float(n ** _SCALES[scale])
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale) or scale == 0:
        raise MuxwrapError(f"scale={scale!r} is not a finite number other than 0. {known_names('', _SCALES)}")
    return float(scale)


def per_index(keys: Tensor, x: Tensor) -> Tensor:
    """View keys ``[n, dim]`` so that they broadcast over ``x`` ``[g, n, ..., dim]``, in the dtype of ``x``."""
    return keys.to(x.dtype).view(keys.shape[0], *[1] * (x.ndim - 3), keys.shape[1])


def register_strategy(name: str) -> Callable[[type[S]], type[S]]:
    """Return a class decorator that makes a :class:`Strategy` of your own usable as ``strategy=name``.

    Raises:
        MuxwrapError: another class has the name.
    """
    return registry.register(name)


def list_strategies(sees: Sees | None = None) -> list[str]:
    """Return the names that ``strategy=`` takes, sorted.

    Args:
        sees: only those that need to see ``"features"`` (they fit anywhere), ``"tokens"`` or an ``"image"``.
    """
    names = registry.names()
    return [name for name in names if sees in (None, registry.get(name).sees)]
