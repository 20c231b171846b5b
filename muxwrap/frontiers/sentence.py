"""What a chart says in a sentence."""

from __future__ import annotations

from muxwrap.frontiers.point import Point

LEVEL = 1.03
"""Speeds that differ by less are level: rounds of the same model do."""


def sentence(points: float, bare: Point, plain: Point, mixed: Point | None) -> str:
    """Say what so many points of accuracy buy, and which of the two to take.

    Args:
        points: that may be lost.
        bare: the trained model as it is.
        plain: the fastest model within them that is not multiplexed; the trained one itself is.
        mixed: the fastest multiplexed model within them.
    """
    within = f"For {points:g} {'point' if points == 1 else 'points'} you get"
    if mixed is None and plain.speed < LEVEL:
        return f"Nothing is faster than the model as it is within {points:g} points of its {bare.accuracy:.1%}."
    if mixed is None:
        return f"{within} {_told(plain)}, without multiplexing: no multiplexed model is within them. Take the rival."
    if max(mixed.speed, plain.speed) < LEVEL:
        return f"Nothing is faster than the model as it is within {points:g} points of its {bare.accuracy:.1%}."
    if mixed.speed >= LEVEL * plain.speed:
        other = (
            f"the best rival within them is {_told(plain)}"
            if plain.speed >= LEVEL
            else "no rival within them is faster"
        )
        return f"{within} {_told(mixed)}; {other}."
    if plain.speed >= LEVEL * mixed.speed:
        return (
            f"{within} {_told(plain)}, without multiplexing, whose best within them is {_told(mixed)}. Take the rival."
        )
    return (
        f"{within} {_told(plain)}, and multiplexing is level: {_told(mixed)}. Take the rival, the simpler of the two."
    )


def _told(point: Point) -> str:
    return f"{point.speed:.1f}x ({point.name}, {point.accuracy:.1%})"
