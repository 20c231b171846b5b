"""What strategies refuse, said in one voice."""

from __future__ import annotations

from muxwrap.errors import MuxwrapError

DENSE_LIMIT = 8192
"""The largest feature axis that gets a dense random matrix: one of them is then 256 MiB of float32."""


def check_dense(name: str, dim: int) -> None:
    """Refuse a feature axis too long for a dim x dim matrix.

    Raises:
        MuxwrapError: ``dim`` is above :data:`DENSE_LIMIT`.
    """
    if dim > DENSE_LIMIT:
        raise MuxwrapError(
            f"{name}(dim={dim}) needs a dense {dim} x {dim} matrix, and the limit is dim={DENSE_LIMIT}; 'sign', "
            "'permutation', 'walsh' and 'circular' keep norms too and cost about as much as a product with a vector"
        )


def check_room(name: str, n: int, dim: int) -> None:
    """Refuse more instances than there are coordinates to share out.

    Raises:
        MuxwrapError: ``n`` is above ``dim``.
    """
    if n > dim:
        raise MuxwrapError(
            f"{name}(n={n}, dim={dim}) gives every instance coordinates of its own and has {dim} for {n}; take "
            f"n <= {dim} or a strategy that adds full-size codes, such as 'hadamard' or 'sign'"
        )


def refuse_learning(name: str, learnable: bool, why: str) -> None:
    """Refuse ``learnable=True`` for a strategy without anything to train.

    Raises:
        MuxwrapError: ``learnable`` is true.
    """
    if learnable:
        raise MuxwrapError(
            f"{name}(learnable=True): {why}, so there is nothing to learn; leave learnable=False, or take a strategy "
            "with real-valued keys, such as 'hadamard' or 'slots'"
        )
