"""Trying sites on the backbone itself: what works is found out, not listed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from muxwrap._hooks.attachment import attached
from muxwrap._hooks.components import Components
from muxwrap._hooks.side_inputs import takes_mask
from muxwrap._util.examples import ROWS, with_rows
from muxwrap._util.nested import first_tensor, replace_object, tensors_in
from muxwrap.site import Sites
from muxwrap.sites.answers import answers, kept, unpadded
from muxwrap.sites.repeat import Repeat
from muxwrap.strategies.features.identity import Identity


class Trial:
    """A backbone, three copies of an example's first row, and dry runs at sites: two by two, mixed by just a mean.

    Args:
        backbone: left as it is after every run.
        example: a call of the backbone.
        prefix: tokens that the demuxer will put before every mixture.
    """

    def __init__(self, backbone: nn.Module, example: Any, prefix: int = 0) -> None:
        self.backbone = backbone
        self.example = with_rows(with_rows(_one_choice(example), 1))
        self.prefix = prefix
        self._outcomes: dict[Any, list[Tensor] | str] = {}
        self._products: dict[torch.device, float] = {}  # their error

    def problem(self, sites: Sites) -> str | None:
        """Return what goes wrong at these sites, or None if three rows come back."""
        return _reason(self._run(sites, self.prefix))

    def match(self, sites: Sites) -> Literal["exact", "sound", "wrong"]:
        """Compare the answers with the bare model's, which copies of one input have to get when mixed with each other.

        Rows or masks that only happen to fit by their shapes give wrong ones.

        Returns:
            ``"sound"`` if only rows with padding differ (from a convolution that reads it, for example).
        """
        own, mixed = self._bare(sites.masked), self._run(sites)
        if isinstance(own, str) or isinstance(mixed, str) or len(own) != len(mixed):
            return "wrong"
        pairs = [(self._read(a), self._read(b)) for a, b in zip(own, mixed, strict=True)]
        if all(self._close(a, b) for a, b in pairs):
            return "exact"
        return "sound" if all(self._close(unpadded(a), unpadded(b)) for a, b in pairs) else "wrong"

    def _read(self, answer: Tensor) -> Tensor:
        """Return an answer without that at the padding, which nobody reads."""
        tokens = first_tensor(self.example)
        if tokens is None or answer.ndim < 2 or answer.shape[1] != tokens.shape[1]:
            return answer
        return answer[:, kept(answer.shape[1], answer.device)]

    def _close(self, own: Tensor, mixed: Tensor) -> bool:
        """Whether answers are equal but for rounding."""
        distance = _distance(own, mixed)
        return distance <= 1e-5 or distance <= 50 * self._noise or (distance <= 0.02 and self._coarse(own))

    def _coarse(self, like: Tensor) -> bool:
        """Whether products are rounded as in half precision: an accelerator may do so with float32 (TensorFloat-32)."""
        if like.dtype in (torch.float16, torch.bfloat16):
            return True
        if like.device not in self._products:
            self._products[like.device] = _product_error(like)
        return self._products[like.device] > 1e-5

    @cached_property
    def masked(self) -> bool:
        """Whether the backbone takes a mask for this example, bare."""
        has_ids = any(not tensor.is_floating_point() for tensor in tensors_in(self.example))
        return has_ids and takes_mask(self.backbone) and not isinstance(self._bare(True), str)

    @property
    def reproducible(self) -> bool:
        """Whether the bare model gives a row the same answer whatever else is in the batch."""
        return self._noise < 0.01

    @cached_property
    def _noise(self) -> float:
        """How far the bare model's answers to the same row are apart in batches of two sizes, relative to the largest."""
        three, two = self._bare(False), answers(self.backbone, with_rows(self.example, 2), False, rows=2)
        if isinstance(three, str) or isinstance(two, str):
            return 0.0
        return max(
            (_distance(a[:2], b) for a, b in zip(three, two, strict=True) if a.shape[:1] == (ROWS,)), default=0.0
        )

    def narrowed(self, sites: Sites) -> Sites:
        """Separate the first token only, where nothing behind the site reads any other."""
        if len(sites.demux) > 1 or sites.demux[0].axis != -1:
            return sites
        narrow = replace(sites, demux=(replace(sites.demux[0], first_token=True),))
        # NaN in every other token reaches the answers if anything reads it, which weights of zero cannot hide.
        first_only = _reason(self._run(sites, blot=True)) is None
        return narrow if first_only and self.problem(narrow) is None else sites

    def _bare(self, masked: bool) -> list[Tensor] | str:
        if masked not in self._outcomes:
            self._outcomes[masked] = answers(self.backbone, self.example, masked)
        return self._outcomes[masked]

    def _run(self, sites: Sites, prefix: int = 0, blot: bool = False) -> list[Tensor] | str:
        key = (sites, prefix, blot)
        if key not in self._outcomes:
            mean = Identity(2, sites.mux[0].dim, scale="mean")
            demuxers = nn.ModuleList(Repeat(2, site.dim, prefix, blot) for site in sites.demux)
            components = Components(self.backbone, 2, sites, mean, demuxers, nn.ModuleList())
            with attached(components) as call:
                self._outcomes[key] = answers(self.backbone, self.example, sites.masked, finite=blot, call=call)
        return self._outcomes[key]


def _reason(outcome: list[Tensor] | str) -> str | None:
    return outcome if isinstance(outcome, str) else None


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    if a.shape != b.shape or not a.numel():
        return 0.0 if a.shape == b.shape else math.inf
    largest = float(a.abs().max())
    return float((a - b).abs().max()) / largest if largest else float(b.abs().max())


def _product_error(like: Tensor) -> float:
    """Return how far a matrix product and a convolution are from the exact ones, where and as ``like`` was made."""
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float64)
    left, right = a.to(like), b.to(like)
    made = left @ right, torch.nn.functional.conv2d(right.view(1, 64, 64, 1), left.view(64, 64, 1, 1)).view(64, 64)
    return max(_distance(a @ b, each.detach().to("cpu", torch.float64)) for each in made)


def _one_choice(example: Any) -> Any:
    """Make all sequences of a row the first one where a row has several to choose from: they share mixtures, too."""
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 3:
        return example
    return replace_object(
        example if isinstance(example, (dict, tuple)) else (example,), ids, ids[:, :1].expand_as(ids).contiguous()
    )
