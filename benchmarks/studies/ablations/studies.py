"""What is varied: one element at a time, everything else as in one base configuration.

A study is a list of labelled cells. A cell does not know its studies, so that one which belongs to several (the base
belongs to most) is trained once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Cell:
    """One configuration; the defaults are the base.

    Args:
        n: instances in a mixture.
        strategy: its name.
        scale: of the combination; None is the strategy's own.
        learnable: train φ; None is the strategy's own.
        demux: the demuxer's name.
        centered: whether gradients are centered, where the demuxer can do that.
        apart: whether the trunk starts apart.
        layers: of the backbone.
        width: of the backbone; the feed-forward has four times as many features.
        heads: of the backbone.
        mixed_after: layers that run once per instance, before instances are mixed.
        warm_up: retrieval steps before the task.
        retrieval: the demuxer of that warm-up, ``"separate"`` or ``"shared"``.
    """

    n: int = 4
    strategy: str = "slots"
    scale: str | None = None
    learnable: bool | None = None
    demux: str = "mlp"
    centered: bool = True
    apart: bool = False
    layers: int = 2
    width: int = 72
    heads: int = 4
    mixed_after: int = 0
    warm_up: int = 0
    retrieval: str = "separate"

    def key(self, measure: str, seed: int) -> str:
        """Return what a measured cell is found by."""
        return " ".join([measure, *(f"{name}={value}" for name, value in asdict(self).items()), f"seed={seed}"])


class Study(NamedTuple):
    """One element: what to train, how to measure it, and how to show it.

    ``measures`` are ``"retrieval"`` (accuracy after a fixed number of steps), ``"converge"`` (steps until 90 %) and
    ``"task"``. Cells whose label is a number and a name are drawn along an axis, one line per name.
    """

    title: str
    label: str
    measures: tuple[str, ...]
    cells: dict[str, Cell]


BASE = Cell()
CODE = replace(BASE, strategy="hadamard")  # the papers' first strategy
BACK = replace(BASE, n=8, demux="unbind")
HARDER = (replace(BASE, n=8), replace(CODE, n=8))  # where a warm-up should matter: the task alone learns little
STRATEGIES = ("slots", "hadamard", "orthogonal", "sign", "low_rank", "binary", "identity")


def numbers(field: str, values: tuple[int, ...], *bases: Cell) -> dict[str, Cell]:
    """Return a line of cells for every base: ``"8 slots"`` has the value and the strategy."""
    return {f"{v} {b.strategy}": replace(b, **{field: v}) for b in bases for v in values}


STUDIES: dict[str, Study] = {
    "strategy": Study(
        "Strategies",
        "strategy",
        ("retrieval", "task"),
        {name: replace(BASE, strategy=name) for name in STRATEGIES},
    ),
    "instances": Study(
        "Steps to converge",
        "n (instances in a mixture)",
        ("converge",),
        numbers("n", (2, 4, 6, 8), BASE, CODE),
    ),
    "demuxer": Study(
        "Demuxers",
        "demuxer, strategy",
        ("retrieval", "task"),
        {
            f"{demux}, {base.strategy}": replace(base, demux=demux)
            for base in (BASE, CODE)
            for demux in ("mlp", "key", "index", "unbind")
        },
    ),
    "warm_up": Study(
        "Retrieval warm-up before the task, n = 8",
        "steps of warm-up",
        ("task",),
        numbers("warm_up", (0, 100, 300), *HARDER),
    ),
    "start": Study(
        "Start of the trunk, n = 8",
        "start, demuxer",
        ("retrieval", "task"),
        {
            "random, mlp": replace(BASE, n=8),
            "random, unbind": BACK,
            "apart, mlp": replace(BASE, n=8, apart=True),
            "apart, unbind": replace(BACK, apart=True),
        },
    ),
    "centering": Study(
        "Centered gradients",
        "n, strategy, features, gradient",
        ("retrieval", "task"),
        {
            f"{base.n}, {base.strategy}, {base.width}, {'centered' if centered else 'whole'}": replace(
                base, centered=centered
            )
            for base in (BASE, replace(BASE, width=156), CODE, *HARDER)
            for centered in (True, False)
        },
    ),
    "learned": Study(
        "Learned or frozen φ",
        "strategy",
        ("retrieval", "task"),
        {
            f"{name}, {'learned' if learnable else 'frozen'}": replace(BASE, strategy=name, learnable=usual(learnable))
            for name, usual in (
                ("slots", lambda on: None if on else False),
                ("hadamard", lambda on: on or None),
                ("orthogonal", lambda on: on or None),
            )
            for learnable in (False, True)
        },
    ),
    "scale": Study(
        "Scale of the combination",
        "strategy, factor",
        ("retrieval",),
        {
            f"{base.strategy}, {shown}": replace(base, scale=scale)
            for base, own in ((BASE, "sum"), (CODE, "sqrt"))
            for each, shown in (("mean", "1/n"), ("sqrt", "1/√n"), ("sum", "1"))
            for scale in (None if each == own else each,)
        },
    ),
    "heads": Study("Attention heads", "heads", ("retrieval",), numbers("heads", (1, 2, 4, 6, 12), BASE)),
    "depth": Study("Depth", "layers", ("retrieval",), numbers("layers", (2, 4, 8, 12), BASE)),
    "width": Study("Width", "features", ("retrieval",), numbers("width", (24, 36, 72, 156, 384), BASE)),
    "mixing_depth": Study(
        "Layers before mixing, of four",
        "layers before mixing",
        ("task",),
        numbers("mixed_after", (0, 1, 2, 3), replace(BASE, layers=4)),
    ),
    "retrieval_demuxer": Study(
        "The warm-up's demuxer, n = 8",
        "strategy, demuxer of the warm-up",
        ("task",),
        {
            f"{base.strategy}, {kind}": replace(base, warm_up=300, retrieval=kind)
            for base in HARDER
            for kind in ("separate", "shared")
        },
    ),
}
