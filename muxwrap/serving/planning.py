"""Which of the waiting rows share the mixtures of the next pass, and with how many others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def plan(tenants: Sequence[Hashable], n: int, mixtures: int) -> list[list[int]]:
    """Choose the waiting rows of the next pass: the oldest first, one tenant a mixture.

    Args:
        tenants: of the waiting rows, in order of arrival.
        n: most rows of a mixture.
        mixtures: most mixtures of the pass.

    Returns:
        The positions of the rows, by mixture; no mixture is empty.
    """
    made: list[list[int]] = []
    latest: dict[Hashable, list[int]] = {}
    room = n * mixtures
    for position, tenant in enumerate(tenants):
        if tenant not in latest or len(latest[tenant]) == n:
            if len(made) == mixtures:
                continue
            latest[tenant] = []
            made.append(latest[tenant])
        latest[tenant].append(position)
        room -= 1
        if not room:
            break
    return made


def choose(tenants: Sequence[Hashable], sizes: Sequence[int], mixtures: int) -> tuple[int, list[list[int]]]:
    """Return the smallest n, and its plan, with which the next pass answers as many rows as with any."""
    plans = [(n, plan(tenants, n, mixtures)) for n in sizes]
    return max(plans, key=lambda each: (sum(map(len, each[1])), -each[0]))
