"""What is chosen where the user does not choose."""

from __future__ import annotations

from muxwrap.strategies import Identity, Strategy

SMALLEST_SLOT = 4  # features; below that a slot of its own holds too little of an instance


def strategy(n: int, dim: int) -> str:
    """Return the name of the strategy for n instances on ``dim`` features.

    One instance is left as it is. Slots keep instances apart, which trains much faster than adding full-size codes, as
    long as there are features enough for a slot each; else codes.
    """
    if n == 1:
        return "identity"
    return "slots" if n * SMALLEST_SLOT <= dim else "hadamard"


def demuxer(strategy: Strategy) -> str:
    """Return the name of the demuxer: per-index layers learn to separate several times faster than keys.

    What is not bound needs none, so that ``n=1`` is the bare model.
    """
    return "unbind" if strategy.n == 1 and isinstance(strategy, Identity) else "mlp"
