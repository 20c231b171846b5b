"""Where a backbone is cut, and how the tensors lie there."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Side = Literal["input", "output"]
Mask = Literal["none", "size", "optional", "always", "inside", "both", "ignored"]
Sees = Literal["features", "tokens", "image"]


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
        shape: what a row of the example had here, ``(C, H, W)`` for an image; read by strategies that see space. Sites
            that differ in nothing else are equal.
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

    @property
    def image(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` of a row, channels first wherever the backbone has them, or None where a row is no image."""
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
        return f"{self.side} of {self.path or 'the backbone'} ({axis}, dim {self.dim}{token}{twice})"


@dataclass(frozen=True)
class Sites:
    """Where a backbone is multiplexed.

    Args:
        mux: where instances are mixed. Several only where a model embeds several inputs (encoder and decoder); all of
            them are reached in every call.
        demux: where mixtures are separated. Several only where a model has several heads (a distillation token, auxiliary
            heads in training); the first is reached in every call.
        mask: how the backbone takes ``attention_mask``: ``"none"`` (it has no such argument), ``"size"`` (nor that, and it
            asks for the size of the batch before mixing: it gets a stand-in of as many rows as mixtures, and the modules
            at ``mux`` get the batch), ``"optional"``,
            ``"always"`` (without one it makes its own, of the wrong number of rows), ``"inside"`` (mixing is among the
            layers: those before it get what belongs to the rows, those after it what belongs to the mixtures),
            ``"both"`` (optional, and what else of the rows the modules after the mixing are handed is merged, too), or
            ``"ignored"`` (the backbone is told neither masks nor types nor positions, and padding is mixed like tokens;
            the published text models).
        mask_at: the module whose call gets the merged mask; what runs outside of it keeps the batch's own. ``""`` is the
            whole backbone.
    """

    mux: tuple[Site, ...]
    demux: tuple[Site, ...]
    mask: Mask = "none"
    mask_at: str = ""

    @property
    def masked(self) -> bool:
        """Whether the backbone takes a mask."""
        return self.mask not in ("none", "size")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Sites:
        """Return what :meth:`to_dict` saved."""
        mux, demux = (tuple(_read(site) for site in saved[key]) for key in ("mux", "demux"))
        return cls(mux, demux, saved["mask"], saved["mask_at"])


def _read(saved: dict[str, Any]) -> Site:
    shape = saved.get("shape")  # JSON has no tuples
    return Site(**{**saved, "shape": None if shape is None else tuple(shape)})
