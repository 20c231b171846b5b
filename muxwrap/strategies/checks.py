"""What strategies refuse."""

from __future__ import annotations

from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sees

DENSE_LIMIT = 8192
"""The largest feature axis that gets a dense random matrix: one of them is then 256 MiB of float32."""
_INSTANCES: dict[Sees, tuple[int | None, int, str]] = {  # number of axes, where the features are, and the words for it
    "features": (None, -1, "[groups, {n}, ..., {dim}]"),
    "tokens": (4, -1, "tokens [groups, {n}, L, {dim}]"),
    "image": (5, 2, "images [groups, {n}, {dim}, H, W]"),
}


def check_instances(name: str, sees: Sees, n: int, dim: int, x: Tensor) -> None:
    """Refuse instances that a strategy cannot mix.

    Args:
        name: of the strategy's class.
        sees: what the strategy is applied to.
        n: instances in a mixture.
        dim: features, or channels of images.
        x: the instances.

    Raises:
        MuxwrapError: the number of instances, features or axes is another one.
    """
    axes, at, layout = _INSTANCES[sees]
    if x.ndim != (axes or max(x.ndim, 3)) or fixed((x.shape[1], x.shape[at])) != (n, dim):
        raise MuxwrapError(f"{name}(n={n}, dim={dim}) got {list(x.shape)}; it mixes {layout.format(n=n, dim=dim)}")


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


def check_norm(name: str, norm: float | None) -> float | None:
    """Return the norm of Gaussian keys, or refuse it.

    Raises:
        MuxwrapError: ``norm`` is not positive.
    """
    if norm is not None and not norm > 0:
        raise MuxwrapError(f"{name}(norm={norm!r}): it is the length of every key and must be positive")
    return norm


def check_size(name: str, size: object) -> tuple[int, int]:
    """Return the height and width of images, or refuse them.

    Raises:
        MuxwrapError: ``size`` is not two ints of 1 or more.
    """
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise MuxwrapError(f"{name}(size={size!r}): give the height and width of the images, such as size=(28, 28)")
    return size[0], size[1]


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
