"""Where a backbone is cut, how its tensors are laid out there, and how it takes a mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Literal

Side = Literal["input", "output"]
Sees = Literal["features", "tokens", "image"]
SideKind = Literal["keep", "padding", "additive", "lengths", "same", "constant"]


class MaskMode(str, Enum):
    """How a backbone takes ``attention_mask``, and so who gets the rows' mask and who the mixtures'."""

    NONE = "none"
    """It has no such argument."""
    SIZE = "size"
    """It has no such argument, and reads the size of the batch before mixing. It gets a stand-in of as many rows as there
    are mixtures; the modules at ``mux`` get the batch itself, floats or ids."""
    OPTIONAL = "optional"
    """It takes a mask, and none where nothing is padded. It gets the mixtures' mask, its stem the rows'."""
    ALWAYS = "always"
    """Like ``OPTIONAL``, but without a mask it makes its own, of the wrong number of rows; so it always gets one."""
    INSIDE = "inside"
    """Mixing is among the layers: those before it get the rows' side inputs, those after it the mixtures'."""
    BOTH = "both"
    """Like ``OPTIONAL``; besides, every other tensor of the rows that the modules after mixing get is merged, too."""
    IGNORED = "ignored"
    """It gets neither masks nor types nor positions, and padding is mixed like tokens (the published text models)."""


@dataclass(frozen=True)
class Site:
    """One side of one module of the backbone, and the feature axis of the tensor that passes there.

    Args:
        path: the module's name in ``backbone.named_modules()``; ``""`` is the backbone itself.
        side: whether the tensor is the module's input or its output.
        axis: the feature axis counted in the backbone's own tensor ``[rows, ...]``: -1 for tokens, 1 for the channels of
            a feature map, ``None`` where everything but the rows is one long feature axis (whole images).
        dim: the size of the feature axis.
        first_token: the head reads token 0 only, so that only this token is separated.
        shape: the shape of one row of the example here, ``(C, H, W)`` for an image; read by strategies that see space.
            Not compared by ``==``.
        grid: H, W where the last H·W tokens of a row are patches of an image.
        part: which of the tensors that the module is given where instances are mixed, or returns where mixtures are
            separated, counted as they lie there; None is the first of two axes or more.
        times: how often the call of the example passes here: once per input where one encoder reads several. If it is more
            than once, other calls may pass more or less often (views, frames).
        twice: the module is applied a second time, to the mixture as its ``inputs_embeds``, so that positions, types and
            norm come in again (DataMUX's code); for the output of a module that takes ids or embeddings.
    """

    path: str
    side: Side
    axis: int | None
    dim: int
    first_token: bool = False
    shape: tuple[int, ...] | None = field(default=None, compare=False)
    twice: bool = False
    grid: tuple[int, int] | None = field(default=None, compare=False)
    part: int | None = None
    times: int = 1

    @property
    def image(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` of a row, channels first wherever the backbone has them, or None where a row is not an image."""
        if self.shape is None or len(self.shape) != 3 or self.axis not in (None, 1, -1):
            return None
        a, b, c = self.shape
        return (c, a, b) if self.axis == -1 else (a, b, c)

    @property
    def pixels(self) -> int:
        """H·W of a row that is an image, 0 of any other. What was pooled over the image has 1."""
        return 0 if self.image is None else math.prod(self.image[1:])

    def __str__(self) -> str:
        axis = "all axes" if self.axis is None else f"axis {self.axis}"
        token = ", first token" if self.first_token else ""
        twice = ", twice" if self.twice else ""
        times = f", {self.times} times" if self.times > 1 else ""
        side = self.side if self.part is None else f"{self.side} {self.part}"
        return f"{side} of {self.path or 'the backbone'} ({axis}, dim {self.dim}{token}{twice}{times})"


@dataclass(frozen=True)
class SideInput:
    """A tensor of the rows that a module between the sites is given besides what is mixed, and how a mixture's is made.

    | kind | what it says of a row | of a mixture |
    | --- | --- | --- |
    | ``"keep"`` | 1 or True where a position counts | it counts where it does for any instance |
    | ``"padding"`` | 1 or True where a position is padding | it is padding where it is for all instances |
    | ``"additive"`` | what is added to the scores of attention, 0 where a position counts | the largest |
    | ``"lengths"`` | how many positions count, ``[B]`` | the largest |
    | ``"same"`` | anything else: time steps, conditions, rotations | that of all instances, which have to agree |
    | ``"constant"`` | nothing: learned queries, expanded to the batch | that of all instances |

    Args:
        path: the module's name in ``backbone.named_modules()``.
        argument: which of its arguments, as Python writes it: ``"args[1]"``, ``"kwargs['src_key_padding_mask']"``.
        kind: as in the table.
        site: the place among the mux sites of that whose padding it tells; there padding is left out of mixtures. None where
            it tells of nothing that is mixed, or where the backbone reads padding as well.
        first: the module that is given the very tensor first, and the argument: there it is read, before anything is mixed.
    """

    path: str
    argument: str
    kind: SideKind
    site: int | None = None
    first: tuple[str, str] | None = None

    def renamed(self, rename: Callable[[str], str]) -> SideInput:
        """Return this side input in a model whose modules have other names."""
        first = None if self.first is None else (rename(self.first[0]), self.first[1])
        return replace(self, path=rename(self.path), first=first)


@dataclass(frozen=True)
class Sites:
    """Where a backbone is multiplexed.

    Args:
        mux: where instances are mixed. Several only where a model embeds several inputs (encoder and decoder); all of
            them are reached in every call.
        demux: where mixtures are separated. Several only where a model has several heads (a distillation token, auxiliary
            heads in training); the first is reached in every call.
        mask: how the backbone takes ``attention_mask``: a :class:`MaskMode` or its value, such as ``"optional"``.
        mask_at: the module whose call gets the merged mask; what runs outside of it keeps the batch's own. ``""`` is the
            whole backbone.
        sides: what modules between the sites are given of the rows besides, such as padding masks of any name.
        share: the part of the backbone's operations that run between mixing and separating, once per mixture; counted where
            sites are found, and not compared by ``==``.
        padding_read: whether the answers depend on what ``attention_mask`` calls padding, so that padding is mixed, too.

    Raises:
        ValueError: ``mask`` is not the value of a :class:`MaskMode`.
    """

    mux: tuple[Site, ...]
    demux: tuple[Site, ...]
    mask: MaskMode | str = MaskMode.NONE
    mask_at: str = ""
    sides: tuple[SideInput, ...] = ()
    share: float | None = field(default=None, compare=False)
    padding_read: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", MaskMode(self.mask))  # frozen, and users may write the value

    @property
    def masked(self) -> bool:
        """Whether the backbone takes a mask."""
        return self.mask not in (MaskMode.NONE, MaskMode.SIZE)

    def renamed(self, rename: Callable[[str], str]) -> Sites:
        """Return these sites in a model whose modules have other names; its own input and output have none."""
        mux, demux = (
            tuple(replace(site, path=rename(site.path)) for site in sites) for sites in (self.mux, self.demux)
        )
        sides = tuple(side.renamed(rename) for side in self.sides)
        return replace(self, mux=mux, demux=demux, mask_at=rename(self.mask_at), sides=sides)

    @property
    def padded(self) -> bool:
        """Whether rows may have padding that the backbone is told of."""
        return self.masked or any(side.kind not in ("same", "constant") for side in self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "mask": MaskMode(self.mask).value}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Sites:
        """Return what :meth:`to_dict` saved."""
        mux, demux = (tuple(_read(site) for site in saved[key]) for key in ("mux", "demux"))
        sides = tuple(_read_side(side) for side in saved.get("sides", ()))
        mask, read = MaskMode(saved["mask"]), saved.get("padding_read", False)
        return cls(mux, demux, mask, saved["mask_at"], sides, saved.get("share"), read)


def percent(share: float) -> str:
    """Return a share as messages and ``print(model)`` show it; what is nearly all is not shown as all."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _read(saved: dict[str, Any]) -> Site:
    shape = saved.get("shape")  # JSON has no tuples
    grid = saved.get("grid")
    tuples = {"shape": None if shape is None else tuple(shape), "grid": None if grid is None else tuple(grid)}
    return Site(**{**saved, **tuples})


def _read_side(saved: dict[str, Any]) -> SideInput:
    first = saved["first"]
    return SideInput(**{**saved, "first": None if first is None else tuple(first)})
