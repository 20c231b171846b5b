"""What a demuxer is: one trunk output in, one output for every index out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, Literal, TypeVar, overload

from torch import Tensor

from muxwrap._util.remade import Remade
from muxwrap._util.seeding import seeded
from muxwrap._util.sizes import fixed
from muxwrap.demuxers.centering import centered
from muxwrap.demuxers.index_norm import IndexNorm
from muxwrap.errors import MuxwrapError, check_count, check_dim
from muxwrap.registry import Registry

D = TypeVar("D", bound="Demuxer")


class Demuxer(Remade, ABC):
    """Separates one trunk output into n: ``[g, ..., dim] -> [g, n, ..., dim]``.

    A demuxer of your own subclasses this and implements :meth:`forward`; with ``@muxwrap.register_demuxer("name")`` it
    works by name, saves and loads. Its constructor takes ``n`` and ``dim`` and may also name ``seed``, ``strategy``
    (the model's strategy) and ``mux_dim`` (the size of the feature axis where the mixture was made).
    Every initial value comes from ``seed``: make layers inside ``with self.seeded():``.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis, which is the last one here.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values; the global random state is left as it was.

    Raises:
        MuxwrapError: a bad ``n`` or ``dim``.
    """

    name: ClassVar[str]
    center_gradients: bool = False
    """Whether the gradient is centered in training, see :func:`~muxwrap.demuxers.centering.centered`."""
    uses_sentinel_ids: bool = False
    """Whether :meth:`insert_sentinel_ids` changes the instances' token ids (the published text models)."""
    prefix_outputs: int = 0
    """How many of the tokens put before an instance have outputs in :meth:`forward`, before those of its own tokens."""

    def __init__(self, n: int, dim: int, *, hide_index: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.n = check_count(n)
        self.dim = check_dim(dim)
        self.hide_index = hide_index
        self.seed = seed
        self.index_norm = IndexNorm(n, dim) if hide_index and n > 1 else None

    @classmethod
    def prefix_for(cls, n: int) -> int:
        """Return how many tokens :meth:`extend` puts before a mixture of n instances; forward gets and removes them."""
        return 0

    @property
    def prefix_length(self) -> int:
        """Tokens before every mixture."""
        return self.prefix_for(self.n)

    @property
    def tokens_added(self) -> int:
        """Tokens before those of an instance in the trunk: the prefix, and any other sentinel ids."""
        return self.prefix_length

    @abstractmethod
    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, ..., dim]`` into ``[g, n, ..., dim]``.

        With a prefix, ``h`` is ``[g, prefix_length + L, dim]`` and ``[g, n, L, dim]`` comes out.
        """

    def extend(self, mixture: Tensor) -> Tensor:
        """Put the prefix before a mixture of tokens ``[g, L, mux_dim]``; without one it is returned as it is."""
        return mixture

    def finished(self, separated: Tensor) -> Tensor:
        """Return ``[g, n, ..., dim]`` as it goes on: the last line of every :meth:`forward`.

        The index is hidden where ``hide_index`` is set, and in training the gradient is centered where
        :attr:`center_gradients` is.
        """
        if self.index_norm is not None:
            separated = self.index_norm(separated)
        return centered(separated) if self.center_gradients and self.training and self.n > 1 else separated

    def insert_sentinel_ids(self, ids: Tensor) -> Tensor:
        """Change token ids before they are embedded, where :attr:`uses_sentinel_ids`: ``[g, n, L] -> [g, n, L']``."""
        return ids

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the parentheses."""
        return f"n={self.n}, dim={self.dim}"

    def seeded(self) -> AbstractContextManager[None]:
        """Let torch's initialisers draw from :attr:`seed` inside a ``with`` block, and put the old state back."""
        return seeded(self.seed)

    def check_features(self, h: Tensor) -> None:
        """Refuse a tensor whose last axis is not :attr:`dim`.

        Raises:
            MuxwrapError: it is not, or there is no axis of groups before it.
        """
        if h.ndim < 2 or fixed(h.shape)[-1] != self.dim:
            raise MuxwrapError(
                f"{type(self).__name__}(n={self.n}, dim={self.dim}) got {list(h.shape)}; it separates "
                f"[groups, ..., {self.dim}]"
            )


registry: Registry[Demuxer] = Registry("demuxer", Demuxer)  # type: ignore[type-abstract]


def register_demuxer(name: str) -> Callable[[type[D]], type[D]]:
    """Return a class decorator that makes a :class:`Demuxer` of your own usable as ``demux=name``.

    Raises:
        MuxwrapError: another class has the name.
    """
    return registry.register(name)


@overload
def list_demuxers(*, with_description: Literal[False] = False) -> list[str]: ...


@overload
def list_demuxers(*, with_description: Literal[True]) -> list[tuple[str, str]]: ...


def list_demuxers(*, with_description: bool = False) -> list[str] | list[tuple[str, str]]:
    """Return the names that ``demux=`` takes, sorted.

    Args:
        with_description: return pairs of a name and the line that the class's docstring begins with.
    """
    return registry.described(registry.names()) if with_description else registry.names()
