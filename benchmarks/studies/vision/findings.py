"""The small tables of the page of image results, each from the results files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.studies.vision.pictures import NOTEBOOK
from benchmarks.studies.vision.report import Point, Record, points
from benchmarks.studies.vision.tables import DEEP, Cell

COUNTS = (2, 4, 8, 16)
PLACES = {
    DEEP: "cells of the pixels, layers in the cell",
    "layout@conv1@input": "cells of the pixels",
    "layout@@input": "cells of the pixels",
    "slots@pool1": "slots after the stem",
    "apart@pool1": "slots after the stem, trunk starts apart",
    "apart": "before the first block",
    "apart@maxpool": "after the pooled stem",
    "apart@layer2": "after the second of four stages",
    "apart@blocks.0": "after the first of three blocks",
    "slots@first": "after the first layer, trunk starts mixed",
    "apart@first": "after the first layer",
    "apart@second": "after the second layer",
}
Rows = Iterable[list[str]]


def headline(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """Accuracy, and in brackets how many times fewer operations, for a network per line."""
    lines = (
        ("LeNet, MNIST", "lenet", "mnist", DEEP, False),
        ("LeNet, Fashion-MNIST", "fashion", "fashion-mnist", DEEP, False),
        ("perceptron, MNIST", "mlp", "mnist", "apart@first", False),
        ("perceptron, Fashion-MNIST", "mlp", "fashion-mnist", "apart@second", False),
        ("residual network, CIFAR-10, taught", "resnet", "cifar10-subset", "apart@layer2", True),
        ("vision transformer, CIFAR-10, taught", "vit", "cifar10-subset", "apart@blocks.0", True),
    )
    rows = []
    for title, name, dataset, configuration, taught in lines:
        found = [p for p in points(name, records, speeds) if p.cell.dataset == dataset]
        by_n = {p.cell.n: p for p in found if (p.cell.configuration, p.cell.taught) == (configuration, taught)}
        rows.append([title, f"{_bare(found).mean:.1f}", *(_accuracy(by_n.get(n)) for n in COUNTS)])
    notebook = ["*LeNet, MNIST, DataMUX's notebook*", *(f"{NOTEBOOK[n]:.1f}" for n in (1, *COUNTS))]
    return _table(["", "bare", *(f"n={n}" for n in COUNTS)], [rows[0], notebook, *rows[1:]])


def lenet(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """LeNet beside narrower plain ones, by the operations that are left."""
    shown = [p for p in points("lenet", records) if p.cell.configuration in ("bare", DEEP) and p.cell.first == 10]
    names = {p: _network(p.cell) if p.cell.n == 1 else f"n={p.cell.n}" for p in _ordered(shown)}
    return _table(
        ["", "accuracy, %", "operations saved"], [[name, f"{p.mean:.1f}", _operations(p)] for p, name in names.items()]
    )


def places(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """LeNet and CIFAR-10: cells of the pixels against slots."""
    found = points("places", records)
    rows = []
    for configuration in ("layout@conv1@input", "slots@pool1", "apart@pool1"):
        by_n = {p.cell.n: p for p in found if p.cell.configuration == configuration}
        rows.append([PLACES[configuration], *(_accuracy(by_n.get(n)) for n in COUNTS)])
    return _table(["", *(f"n={n}" for n in COUNTS)], rows)


def late(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """The residual network mixed after its second stage, beside a narrower plain one."""
    found = points("resnet", records, speeds)
    shown = [p for p in found if p.cell.configuration == "apart@layer2" or (p.cell.n == 1 and p.cell.width > 0.5)]
    rows = ([_network(p.cell), _spread(p), _operations(p), _speed(p)] for p in _ordered(shown))
    return _table(["", "accuracy, %", "operations saved", "speed"], rows)


def narrow(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """CIFAR-10: half the width against mixing early; all of them had the same teacher."""
    rows = []
    for title, name, early in (("residual", "resnet", "apart@maxpool"), ("transformer", "vit", "apart")):
        found = points(name, records, speeds)
        alike = [p for p in found if p.cell.taught and (p.cell.configuration == early or p.cell.width == 0.5)]
        shown = [_bare(found), *_ordered(alike)]
        rows += [[title, _network(p.cell), f"{p.mean:.1f}", _operations(p), _speed(p)] for p in shown]
    return _table(["", "", "accuracy, %", "operations saved", "speed"], rows)


def perceptron(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """The perceptron on Fashion-MNIST with eight images in a mixture."""
    found = [p for p in points("mlp", records) if p.cell.dataset == "fashion-mnist" and p.cell.n in (1, 8)]
    bare = _bare(found)
    rows = ([_network(p.cell), _spread(p), _distance(p, bare), _operations(p)] for p in found)
    return _table(["", "accuracy, %", "to bare", "operations saved"], rows)


def strategies(records: Sequence[Record], speeds: Sequence[Record]) -> str:
    """Every strategy with four images in a mixture, at the pixels and after the stem."""
    found = {p.cell.configuration: p for p in points("strategies", records)}
    names = sorted({each.partition("@")[0] for each in found if "@" in each and ":" not in each})
    rows = []
    for name in names:
        pixels = found.get(f"{name}@conv1@input") or found.get(f"{name}@pixels")
        rows.append([f"`{name}`", _accuracy(pixels), _accuracy(found.get(f"{name}@pool1"))])
    return _table(["strategy", "at the pixels", "after the stem"], rows)


TABLES: dict[str, Callable[[Sequence[Record], Sequence[Record]], str]] = {
    "headline": headline,
    "lenet": lenet,
    "places": places,
    "late": late,
    "narrow": narrow,
    "perceptron": perceptron,
    "strategies": strategies,
}


def _bare(found: Iterable[Point]) -> Point:
    return next(p for p in found if p.cell.n == 1 and p.cell.width == 1)


def _ordered(found: Iterable[Point]) -> list[Point]:
    return sorted(found, key=lambda p: (p.cell.n, -p.cell.width, p.cell.taught))


def _network(cell: Cell) -> str:
    taught = ", taught" * cell.taught
    if cell.n == 1:
        return f"plain, {f'{cell.width:g} of the' if cell.width != 1 else 'whole'} width{taught}"
    return f"n={cell.n}, {PLACES[cell.configuration]}{taught}"


def _accuracy(point: Point | None) -> str:
    return "–" if point is None else f"{point.mean:.1f} ({point.operations:.1f}x)"


def _spread(point: Point) -> str:
    return f"{point.mean:.1f}" + (f" ± {point.seeds:.1f}" if point.seeds is not None else "")


def _distance(point: Point, bare: Point) -> str:
    return f"{point.mean - bare.mean:+.1f}" if point is not bare else "–"


def _operations(point: Point) -> str:
    return f"{point.operations:.1f}x"


def _speed(point: Point) -> str:
    return "–" if point.speed is None else f"{point.speed:.1f}x"


def _table(head: list[str], rows: Rows) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
