"""What a row costs in a multiplexed model: what still runs for every row, and its part of what runs once per mixture."""

from __future__ import annotations

from muxwrap._util.examples import ROWS


def cost(n: int, share: float, bare: float, counted: float) -> float:
    """Return the operations of a row in a multiplexed model, as a multiple of those in the bare model.

    Groups are full there. What mixing and separating add is what was counted beyond the backbone's own parts; those run once
    per row outside of the sites and once per mixture between them. They do not depend on the backbone, so that with a small
    one they may be more than mixtures save.

    Args:
        n: instances per mixture.
        share: of the bare model's operations that run between the sites.
        bare: operations of a row in the bare model.
        counted: operations of the multiplexed model in a call of ``ROWS`` rows.
    """
    mixtures = -(-ROWS // n)
    outside, between = (1 - share) * bare, share * bare
    added = max(0.0, counted - ROWS * outside - mixtures * between) / mixtures
    return (outside + (between + added) / n) / bare


def dearer(times: float) -> str:
    """Return that a row costs as much as in the bare model or more, and what to do."""
    return (
        f"a row takes {times:.2f} times the operations of the bare model: mixing and separating cost more than mixtures save "
        "in so small a trunk. Take a strategy that mixes without products (strategy='hadamard'), a larger n, or a larger trunk"
    )
