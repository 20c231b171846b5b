"""What a strategy is: φ_i for every index, how the bound instances are combined, and the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar, overload

from torch import Tensor, nn

from muxwrap._util.remade import Remade
from muxwrap.errors import MuxwrapError, check_count, check_dim
from muxwrap.registry import Registry
from muxwrap.site import Sees
from muxwrap.strategies.checks import check_instances
from muxwrap.strategies.scaling import scale_factor, scaled_sum

S = TypeVar("S", bound="Strategy")

_SAVED_OF = "strategy"
"""What a state dict's metadata has beside the version of a strategy's module: what it was saved of."""


class Strategy(Remade, ABC):
    """Binds n instances to their index and combines them: ``m = s · Σ_i φ_i(x_i)``.

    A strategy of your own subclasses this, draws its keys in ``__init__`` (:mod:`muxwrap.strategies.keys`), keeps them
    with :meth:`set_keys`, and implements :meth:`bind` and, if there is a way back, :meth:`unbind`; with
    ``@muxwrap.register_strategy("name")`` it works by name, saves and loads. Features are the last axis; where a model
    has them elsewhere (channels of a feature map), the caller moves them.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis; for images, their channels.
        learnable: train the keys; otherwise they are buffers, saved but fixed.
        scale: ``s``: ``"mean"`` (1/n, the paper's), ``"sqrt"`` (1/√n, keeps the variance of independent instances),
            ``"sum"`` (1) or a number; as a number it is the attribute ``factor``.
        seed: fixes the keys; the global random state is neither read nor moved.

    Attributes:
        width: features of the mixture, ``dim`` unless a subclass sets another number; the stem is then widened.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``.
    """

    name: ClassVar[str]
    sees: ClassVar[Sees] = "features"
    """What φ is applied to: one position's ``"features"`` ``[..., dim]``, a sequence of ``"tokens"`` ``[L, dim]``, or an
    ``"image"`` ``[dim, H, W]``, raw or a feature map. A strategy for images whose constructor names ``size`` gets
    ``(H, W)``."""
    # Properties of the class; an instance whose options change one sets its own (binary's overlap, learned rotations).
    invertible: bool = False
    """Whether :meth:`unbind` is the inverse of :meth:`bind` at any keys; otherwise it is the adjoint."""
    isometric: bool = False
    """Whether :meth:`bind` keeps norms. Set for the class, it holds for fixed keys: trained ones need not."""
    disjoint: bool = False
    """Whether fixed keys send the instances to subspaces that do not meet, so that a mixture loses nothing more."""
    additive: bool = False
    """Whether :meth:`mix` takes some of the instances, so that a mixture is accumulated while they are made."""
    reads_mask: ClassVar[bool] = False
    """Whether :meth:`forward` takes a mask ``[g, n, L]`` of 0 and 1 beside the instances and leaves the padding out by
    itself. For any other strategy padding is set to zero where instances are mixed."""
    places_tokens: ClassVar[bool] = False
    """Whether a mixture has tokens of its own, of which ``place`` says which tokens of the instances they hold. It is then
    mixed and separated between two layers of a trunk, and those between get masks and positions that fit."""

    own_demuxer: ClassVar[str | None] = None
    """The name of the demuxer that belongs to it, which separates where the user names none."""

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__()
        self.n = check_count(n)
        self.dim = self.width = check_dim(dim)
        self.learnable = learnable
        self.scale = scale
        self.seed = seed
        self.factor = scale_factor(scale, n)
        self.isometric = type(self).isometric and not learnable

    @abstractmethod
    def bind(self, x: Tensor) -> Tensor:
        """Apply φ_i to instance i.

        Args:
            x: ``[g, n, ..., dim]``, g groups of n instances.

        Returns:
            ``[g, n, ..., dim]``.
        """

    def unbind(self, z: Tensor) -> Tensor:
        """Apply φ_i⁻¹ (if :attr:`invertible`) or the adjoint φ_iᵀ to entry i.

        Args:
            z: ``[g, n, ..., dim]``.

        Returns:
            ``[g, n, ..., dim]``.

        Raises:
            MuxwrapError: the strategy has no way back.
        """
        raise MuxwrapError(f"{type(self).__name__} has no unbind; take a demuxer that learns, such as 'mlp'")

    def combine(self, bound: Tensor) -> Tensor:
        """Sum the bound instances and scale: ``[g, n, ..., dim] -> [g, ..., dim]``."""
        return scaled_sum(bound, 1, self.factor)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Return ``combine(bind(x))``; a strategy may override this with a form that never holds n bound copies.

        Args:
            x: ``[g, n, ..., dim]``; where :attr:`additive`, k of the n instances may come alone.
            start: the index of the first of them.

        Returns:
            ``[g, ..., dim]``; of k instances, what they add to the mixture.
        """
        return self.combine(self.bind(x))

    def separate(self, mixture: Tensor) -> Tensor:
        """Undo the scale and unbind every index from one mixture: ``[g, ..., dim] -> [g, n, ..., dim]``.

        Exact where the instances lie in subspaces that do not meet; elsewhere each comes back with crosstalk from the
        others.

        Raises:
            MuxwrapError: the strategy has no way back.
        """
        spread = mixture.unsqueeze(1).expand(-1, self.n, *mixture.shape[1:])
        return self.unbind(spread) / self.factor

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``[g, n, ..., dim]`` into ``[g, ..., dim]``, images ``[g, n, dim, H, W]`` into ``[g, width, H, W]``.

        Raises:
            MuxwrapError: the number of instances, features or axes is not that of what the strategy :attr:`sees`.
        """
        check_instances(type(self).__name__, self.sees, self.n, self.dim, x)
        return self.mix(x)

    def length(self, tokens: int) -> int:
        """Return how many tokens a mixture of instances of so many tokens has."""
        return tokens

    def set_keys(self, name: str, value: Tensor) -> None:
        """Keep keys as a parameter if they are to be learned, as a saved buffer otherwise."""
        value = value.contiguous()  # safetensors saves nothing else
        if self.learnable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save, and note beside torch's version of the module what the keys are for: the keys of some are alike."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        noted = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if noted is not None:
            noted[_SAVED_OF] = self._described()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        """Load, and refuse what another strategy's state dict says to be its own."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        of, own = local_metadata.get(_SAVED_OF, self._described()), self._described()
        if of != own:
            errors.append(
                f"{prefix[:-1]}: these are the keys of {of}, and this is {own}; wrap with the strategy= and scale= that the "
                "state was saved of"
            )

    def _described(self) -> str:
        return f"{getattr(self, 'name', type(self).__name__)} with a factor of {self.factor:.6g}"

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the parentheses."""
        return f"n={self.n}, dim={self.dim}, scale={self.scale!r}, learnable={self.learnable}"


registry: Registry[Strategy] = Registry("strategy", Strategy)  # type: ignore[type-abstract]


def register_strategy(name: str) -> Callable[[type[S]], type[S]]:
    """Return a class decorator that makes a :class:`Strategy` of your own usable as ``strategy=name``.

    Raises:
        MuxwrapError: another class has the name.
    """
    return registry.register(name)


@overload
def list_strategies(sees: Sees | None = None, *, with_description: Literal[False] = False) -> list[str]: ...


@overload
def list_strategies(sees: Sees | None = None, *, with_description: Literal[True]) -> list[tuple[str, str]]: ...


def list_strategies(sees: Sees | None = None, *, with_description: bool = False) -> list[str] | list[tuple[str, str]]:
    """Return the names that ``strategy=`` takes, sorted.

    Args:
        sees: only those that are applied to ``"features"`` (they fit anywhere), to ``"tokens"`` or to an ``"image"``.
        with_description: return pairs of a name and the line that the class's docstring begins with.
    """
    names = [name for name in registry.names() if sees in (None, registry.get(name).sees)]
    return registry.described(names) if with_description else names
