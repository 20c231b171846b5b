"""The cells of the study, table by table. A cell holds all that its result depends on, except for the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import muxwrap
from benchmarks.studies.common.models import APART, SLOW_CROSSTALK

RECORDED = {"nonlinear_expand": "nonlinear:channels=8"}
"""Strategies with options that the records hold under a name of their own."""


class Cell(NamedTuple):
    """One network, trained in one way; the defaults are LeNet's."""

    dataset: str
    backbone: str
    configuration: str
    n: int
    epochs: int
    width: float = 1
    first: int = 10
    demux: str = "mlp"
    mixtures: int = 64
    lr: float = 4e-3
    decay: float = 0.05
    shift: int = 2
    taught: bool = False  # by the whole bare network, trained for as many epochs

    def __str__(self) -> str:
        settings = self._asdict()
        return " ".join(f"{key}={value}" for key, value in settings.items() if key != "taught" or value)

    @property
    def label(self) -> str:
        size = f" x{self.width:g}" if self.width != 1 else ""
        return f"{self.dataset} {self.backbone}{size} {self.configuration} n={self.n}{' taught' * self.taught}"

    @property
    def method(self) -> str:
        """The configuration as tables and pictures call it."""
        return self.configuration + ", taught" * self.taught

    @property
    def teacher(self) -> Cell:
        """The bare network that teaches this one."""
        return self._replace(configuration="bare", n=1, width=1, taught=False)

    @property
    def crosstalk(self) -> float:
        """The rate at which crosstalk is learned."""
        return SLOW_CROSSTALK if self.configuration.partition("@")[0] == APART else 1.0

    @property
    def network(self) -> str:
        """What its speed depends on."""
        images = "3x32x32" if self.dataset == "cifar10-subset" else "1x20x20"
        size = f"{images} width={self.width:g} first={self.first}"
        return f"{self.backbone} {size} {self.configuration} {self.demux} n={self.n}"


def lenet() -> Iterator[Cell]:
    """The published size on MNIST, and narrower plain ones of about 1/4 and 1/16 of the operations."""
    yield from (Cell("mnist", "lenet", "bare", 1, EPOCHS, first=first) for first in (10, 6))
    yield from (Cell("mnist", "lenet", "bare", 1, EPOCHS, width=width) for width in (0.5, 0.25))
    yield from (Cell("mnist", "lenet", DEEP, n, EPOCHS) for n in (2, 4, 8, 16))
    yield from (Cell("mnist", "lenet", LARGE, n, EPOCHS) for n in (8, 16))
    yield from (Cell("mnist", "lenet", LINEAR, n, EPOCHS) for n in (8, 16))


def fashion() -> Iterator[Cell]:
    """The same on Fashion-MNIST, in fewer epochs."""
    cells = (cell for cell in lenet() if cell.first == 10 and cell.configuration in ("bare", DEEP))
    yield from (cell._replace(dataset="fashion-mnist", epochs=40) for cell in cells)


def widths() -> Iterator[Cell]:
    """LeNet at twice and four times its sizes, where the published size has something to gain."""
    yield from (Cell("mnist", "lenet", DEEP, n, 40, width=width) for n in (16, 8) for width in (1, 2, 4))


def recipes() -> Iterator[Cell]:
    """Changes of the recipe, one at a time, sixteen images per mixture."""
    chosen = Cell("mnist", "lenet", DEEP, 16, 20)
    yield chosen
    yield chosen._replace(backbone="lenet-relu")
    yield from (chosen._replace(mixtures=mixtures) for mixtures in (16, 128))
    yield from (chosen._replace(lr=lr) for lr in (1e-3, 1e-2))
    yield chosen._replace(shift=0)
    for options in (
        "",
        "channels=2",
        "channels=8",
        "hidden=(8,)",
        "channels=8,hidden=(8,)",
        "channels=2,hidden=(8,),reach=1",
    ):
        yield chosen._replace(configuration=f"layout:{options}@conv1@input")


def strategies() -> Iterator[Cell]:
    """Every strategy at n=4, with its default options, at the pixels and after the stem."""
    yield Cell("mnist", "lenet", "bare", 1, 20)
    yield Cell("mnist", "lenet", DEEP, 4, 20)
    for sees, places in (("image", ("conv1@input", "pool1")), ("features", ("pixels", "pool1"))):
        named = RECORDED if sees == "image" else ()
        for name in sorted([*muxwrap.list_strategies(sees), *named]):  # type: ignore[arg-type]
            yield from (Cell("mnist", "lenet", f"{name}@{at}", 4, 20) for at in places)


def places() -> Iterator[Cell]:
    """Pixels or features, the default of each: at which n do cells have too few pixels?"""
    for n in (2, 4, 8, 16):
        yield Cell("mnist", "lenet", "layout@conv1@input", n, 20)
        if n <= 10:  # a slot needs a channel
            yield from (Cell("mnist", "lenet", f"{name}@pool1", n, 20) for name in ("slots", "apart"))


def mlp() -> Iterator[Cell]:
    """A perceptron on the pixels of MNIST and of Fashion-MNIST."""
    for dataset in ("mnist", "fashion-mnist"):
        yield Cell(dataset, "mlp", "bare", 1, 40)
        for configuration in ("slots@first", "apart@first", "apart@second"):
            yield from (Cell(dataset, "mlp", configuration, n, 40) for n in (2, 4, 8, 16))
        for configuration in ("apart@first", "apart@second"):
            yield from (Cell(dataset, "mlp", configuration, n, 40, taught=True) for n in (2, 4, 8, 16))


def resnet() -> Iterator[Cell]:
    """A small residual network of timm on a subset of CIFAR-10, and narrower plain ones."""
    places = "slots", "apart", "apart@maxpool", "layout@@input", "slots@layer2", "apart@layer2"
    yield from _beside_narrower("resnet", places, taught=("apart@maxpool", "apart@layer2"))


def vit() -> Iterator[Cell]:
    """A small vision transformer of timm on a subset of CIFAR-10, and narrower plain ones."""
    places = "slots", "apart", "layout@@input", "concat@patch_embed", "apart@blocks.0"
    yield from _beside_narrower("vit", places, taught=("apart", "apart@blocks.0"))


def _beside_narrower(backbone: str, configurations: tuple[str, ...], taught: tuple[str, ...]) -> Iterator[Cell]:
    cell = Cell("cifar10-subset", backbone, "bare", 1, 80, mixtures=32, shift=4, lr=2e-3)
    yield from (cell._replace(width=width) for width in (1, 0.7, 0.5))
    yield from (cell._replace(configuration=each, n=n) for n in (2, 4) for each in configurations)
    yield from (cell._replace(configuration=each, n=n, taught=True) for n in (2, 4) for each in taught)
    yield from (cell._replace(width=width, taught=True) for width in (0.7, 0.5))


EPOCHS = 100
LINEAR = "layout:channels=2,reach=1@conv1@input"
DEEP = "layout:channels=2,hidden=(8,)@conv1@input"
LARGE = "layout:channels=4,hidden=(8,)@conv1@input"
TABLES: dict[str, Callable[[], Iterator[Cell]]] = {
    table.__name__: table for table in (lenet, mlp, strategies, places, resnet, vit, recipes, fashion, widths)
}
