"""What is compared, in order of importance."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.studies.convert.configurations import Configuration


def core() -> Iterator[Configuration]:
    """Yield what every task is measured with: the rivals, and one line of each kind."""
    yield from (Configuration("plain", layers) for layers in (3, 2, 4, 1))
    yield from (Configuration("tokens", after=2, n=n) for n in (4, 8, 2))
    yield from (Configuration("plain pooled", after=2, n=n) for n in (4, 8))
    yield from (Configuration("orthogonal", after=after, n=n) for n in (4, 2, 8) for after in (3, 2))
    yield from (Configuration("tokens", 4, 2, n) for n in (8, 4))
    yield from (Configuration("tokens to the end", layers, 2, 8) for layers in (3, 4))
    yield Configuration("plain pooled", 3, 2, 8)
    yield from (Configuration("tokens", after=1, n=n) for n in (4, 8))
    yield from (Configuration(kind, after=3, n=4) for kind in ("principal slots", "slots"))


def others() -> Iterator[Configuration]:
    """Yield the rest, which shows what the choices are worth."""
    controls = ("orthogonal, unbind", "orthogonal, random", "orthogonal, free")
    yield from (Configuration(kind, after=3, n=4) for kind in controls)
    yield Configuration("tokens to the end", after=2, n=4)
    yield from (Configuration("tokens", after=3, n=n) for n in (4, 8, 2))
    yield from (Configuration("tokens", 4, 1, n) for n in (8, 4))
    yield Configuration("tokens", after=1, n=2)
    yield from (
        Configuration("plain pooled", *shape) for shape in ((6, 1, 4), (6, 3, 4), (6, 2, 2), (4, 2, 8), (4, 1, 8))
    )
    slots = [(after, n) for after in (3, 2) for n in (2, 4, 8) if (after, n) != (3, 4)]
    yield from (Configuration(kind, after=k, n=n) for kind in ("principal slots", "slots") for k, n in slots)


def more() -> Iterator[Configuration]:
    """Yield what takes longer: one model for several n, and what is fast or mixes features with a long budget."""
    yield from (Configuration("tokens, elastic", after=2, n=8), Configuration("tokens", after=2, n=1))
    for layers, after, n in ((3, 1, 4), (3, 1, 8), (4, 1, 8), (3, 2, 8)):  # for three and four times the speed
        pooling = ("tokens", "plain pooled", "tokens to the end")
        yield from (Configuration(kind, layers, after, n, long=True) for kind in pooling)
    yield from (Configuration("plain", layers, long=True) for layers in (2, 3))
    kinds = ("orthogonal", "orthogonal, in steps", "orthogonal, random", "principal slots", "slots")
    places = ((after, n) for after in (3, 2) for n in (4, 2, 8))
    yield from (Configuration(kind, after=after, n=n, long=True) for after, n in places for kind in kinds)
