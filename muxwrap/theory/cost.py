"""What the exact construction costs: multiplications beside those of separate passes."""

from __future__ import annotations

from dataclasses import dataclass

from muxwrap.errors import check_count, check_dim


@dataclass(frozen=True)
class Operations:
    """Multiplications of one encoder layer for n instances of L tokens.

    Args:
        separate: n passes of the layer of width r.
        multiplexed: the one pass over mixtures of width dim.
        separate_wide: n passes of a layer of width dim: what multiplexing saves if the trunk has that width anyway.
    """

    separate: int
    multiplexed: int
    separate_wide: int


def operations(n: int, width: int, hidden: int, length: int, dim: int | None = None) -> Operations:
    """Count the multiplications of a layer, three ways.

    With r = ``width``, f = ``hidden``, L = ``length``: one pass of the small layer takes ``L (4 r² + 2 r f) + 2 L² r``.
    The multiplexed layer has linear maps between dim and n·r (or n·f) features, ``L (4 dim n r + 2 dim n f)``, the same
    attention patterns ``2 L² n r``, and two norms with the way to the slots and back, ``4 L dim n r``: at dim = n·r about
    n times the linear part of n separate passes. (With coordinate slots all but 1/n of those factors are zeros, and
    leaving the zeros out gives the n separate passes back.) What is saved is saved against n passes of a layer that is
    ``dim`` wide anyway.

    Args:
        n: instances in a mixture.
        width: r, of one instance.
        hidden: f, inner size of the feed-forward of the small layer (a wide layer is given ``hidden · dim / width``).
        length: tokens.
        dim: of the mixture, n · width by default.

    Raises:
        MuxwrapError: a number below 1.
    """
    r, f, tokens = check_dim(width), check_dim(hidden), check_dim(length)
    wide = check_count(n) * r if dim is None else check_dim(dim)
    lifted = tokens * wide * n * (4 * r + 2 * f) + 2 * tokens**2 * n * r + 4 * tokens * wide * n * r
    return Operations(n * _layer(r, f, tokens), lifted, n * _layer(wide, f * wide // r, tokens))


def _layer(width: int, hidden: int, length: int) -> int:
    return length * (4 * width**2 + 2 * width * hidden) + 2 * length**2 * width
