"""A server on a simulated clock: one worker that takes what waits, by the rule of :mod:`muxwrap.serving`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muxwrap.serving.planning import choose


class Level(NamedTuple):
    """One way to answer a pass.

    Args:
        n: rows that share a mixture; of a plain model, rows for which the rule counts one.
        accuracy: in percent, on the rows that choose and on those that are reported.
        sizes: inputs of the trunk, rising, and
        seconds: what a pass of so many takes.
        mixed: whether a pass has as many inputs as mixtures, or as rows.
    """

    n: int
    accuracy: tuple[float, float]
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    mixed: bool = True


class Served(NamedTuple):
    """What became of a trace's rows.

    Args:
        missed: share of the rows whose answer came after the deadline.
        shares: of the rows, by level.
    """

    missed: float
    shares: tuple[float, ...]


class Trace(NamedTuple):
    """Arrivals: two rates in turn, each for a time that is drawn from an exponential distribution.

    Args:
        rate: rows per second on average.
        burst: rate of a burst over that between bursts.
        calm: mean seconds between bursts.
        busy: mean seconds of a burst.
        seconds: how long it lasts.
    """

    rate: float
    burst: float
    calm: float
    busy: float
    seconds: float

    def arrivals(self, seed: int) -> NDArray[np.float64]:
        """Return the times at which rows arrive, in order."""
        rng = np.random.default_rng(seed)
        low = self.rate * (self.calm + self.busy) / (self.calm + self.burst * self.busy)
        found, now, bursting = [], 0.0, False
        while now < self.seconds:
            lasts = rng.exponential(self.busy if bursting else self.calm)
            count = rng.poisson(lasts * low * (self.burst if bursting else 1))
            found.append(np.sort(now + lasts * rng.random(count)))
            now, bursting = now + lasts, not bursting
        times = np.concatenate(found)
        return times[times < self.seconds]


def serve(levels: Sequence[Level], mixtures: int, arrivals: NDArray[np.float64], deadline: float) -> Served:
    """Answer a trace with passes of ``mixtures`` at most; the oldest rows first, and late ones too."""
    sizes, most = tuple(level.n for level in levels), levels[-1].n * mixtures
    takes = cache(lambda at, inputs: float(np.interp(inputs, levels[at].sizes, levels[at].seconds)))
    done, missed, now = 0, 0, 0.0
    rows: Counter[int] = Counter()
    while done < len(arrivals):
        now = max(now, float(arrivals[done]))
        waiting = int(np.searchsorted(arrivals, now, "right")) - done
        n, made, taken = _plan(min(waiting, most), sizes, mixtures)
        at = sizes.index(n)
        now += takes(at, made if levels[at].mixed else taken)
        missed += taken - int((arrivals[done : done + taken] + deadline >= now).sum())
        rows[at] += taken
        done += taken
    return Served(missed / len(arrivals), tuple(rows[at] / len(arrivals) for at in range(len(levels))))


@cache
def _plan(waiting: int, sizes: tuple[int, ...], mixtures: int) -> tuple[int, int, int]:
    """Return n, mixtures and rows of the next pass; the rows are of one tenant."""
    n, made = choose([None] * waiting, sizes, mixtures)
    return n, len(made), sum(map(len, made))
