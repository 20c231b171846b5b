"""Trying sites on the backbone itself: what works is found out, not listed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.attach import Attached
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Sites
from muxwrap.row_facts import MASK, takes_mask
from muxwrap.sites.probe import ROWS, quiet, run, with_rows
from muxwrap.strategies.identity import Identity
from muxwrap.tensors import first_tensor, replace_object, tensors_in


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
        return "sound" if all(self._close(_unpadded(a), _unpadded(b)) for a, b in pairs) else "wrong"

    def _read(self, answer: Tensor) -> Tensor:
        """Return an answer without that at the padding, which nobody reads."""
        tokens = first_tensor(self.example)
        if tokens is None or answer.ndim < 2 or answer.shape[1] != tokens.shape[1]:
            return answer
        return answer[:, _kept(answer.shape[1], answer.device)]

    def _close(self, own: Tensor, mixed: Tensor) -> bool:
        """Whether answers are equal but for rounding."""
        rounding = 0.02 if own.dtype in (torch.float16, torch.bfloat16) else 1e-5
        distance = _distance(own, mixed)
        return distance <= rounding or distance <= 50 * self._noise

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
            demuxers = [_Repeat(2, site.dim, prefix, blot) for site in sites.demux]
            attached = Attached(self.backbone, 2, sites, mean, demuxers)
            try:
                self._outcomes[key] = answers(attached, self.example, sites.masked, finite=blot)
            finally:
                attached.detach()
        return self._outcomes[key]


def answers(model: nn.Module, example: Any, masked: bool, finite: bool = False, rows: int = ROWS) -> list[Tensor] | str:
    """Run a model, also with padding if it takes a mask; return its answers, or what went wrong.

    Args:
        model: bare or multiplexed.
        example: a call of the model.
        masked: whether it takes a mask.
        finite: accept finite answers only.
        rows: of the example.
    """
    found: list[Tensor] = []
    try:
        with quiet(model):
            for one, count in [*([(_padded(example), PADDED_ROWS)] if masked else []), (example, rows)]:
                torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
                output = run(model, one)
                first = first_tensor(output)
                if first is None or first.shape[0] != count:
                    return f"{count} rows in, {None if first is None else first.shape[0]} rows out"
                found += _answers_in(output)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "not finite" if finite and not all(bool(torch.isfinite(answer).all()) for answer in found) else found


def _answers_in(output: Any) -> list[Tensor]:
    """Return the tensors of an output that belong to rows; what a Transformers model tells of its trunk does not."""
    if isinstance(output, dict):
        output = [value for key, value in output.items() if not key.startswith(_KEPT) and not key.endswith(_KEPT)]
    return [answer for answer in tensors_in(output) if answer.is_floating_point()]


_KEPT = ("hidden_states", "attentions", "encoder_last_hidden_state", "past_key_values", "mems", "router_logits")


def _reason(outcome: list[Tensor] | str) -> str | None:
    return outcome if isinstance(outcome, str) else None


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    if a.shape != b.shape or not a.numel():
        return 0.0 if a.shape == b.shape else math.inf
    largest = float(a.abs().max())
    return float((a - b).abs().max()) / largest if largest else float(b.abs().max())


def _unpadded(answer: Tensor) -> Tensor:
    return answer[2:] if answer.shape[0] == PADDED_ROWS else answer


def _one_choice(example: Any) -> Any:
    """Make all sequences of a row the first one where a row has several to choose from: they share mixtures, too."""
    ids = first_tensor(example)
    if ids is None or ids.is_floating_point() or ids.ndim != 3:
        return example
    return replace_object(
        example if isinstance(example, (dict, tuple)) else (example,), ids, ids[:, :1].expand_as(ids).contiguous()
    )


def _padded(example: Any) -> dict[str, Any]:
    """Return keyword arguments of four rows, some tokens of the first two of which are masked out.

    Rows that share a mixture also share their mask, so that each is comparable with the bare model's; mixtures differ, so
    that a mask that gets to another mixture is noticed.
    """
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    arguments = with_rows(arguments, PADDED_ROWS)
    tokens = first_tensor(arguments)
    assert tokens is not None
    shape = tokens.shape[:2] if tokens.is_floating_point() else tokens.shape
    mask = torch.ones(shape, dtype=torch.long, device=tokens.device)
    mask[:2] *= _kept(shape[-1], mask.device)
    own = (name for name in arguments if name.endswith(MASK) and tokens.is_floating_point())
    return {**arguments, next(own, MASK): mask}  # a mask of patches has a name of its own


def _kept(length: int, device: torch.device) -> Tensor:
    """Return which positions are not masked out: among others the first and the last, which a head may read."""
    at = torch.arange(length, device=device)
    return (at < length // 4) | (at >= length // 2)


PADDED_ROWS = 4


class _Repeat(Demuxer):
    """Gives every index the mixture itself; its prefix is empty, and ``blot`` makes every token but the first NaN."""

    def __init__(self, n: int, dim: int, prefix: int, blot: bool) -> None:
        super().__init__(n, dim)
        self.prefix = prefix
        self.blot = blot

    @property
    def prefix_length(self) -> int:
        return self.prefix

    def extend(self, mixture: Tensor) -> Tensor:
        self._check(mixture)
        return F.pad(mixture, (0, 0, self.prefix_length, 0)) if self.prefix_length else mixture

    def forward(self, h: Tensor) -> Tensor:
        self._check(h)
        h = h[:, self.prefix_length :]
        if self.blot:
            if h.ndim < 3 or h.shape[1] < 2:
                raise MuxwrapError("no other tokens here")
            h = torch.cat([h[:, :1], torch.full_like(h[:, 1:], torch.nan)], dim=1)
        return h.unsqueeze(1).expand(-1, self.n, *h.shape[1:])

    def _check(self, h: Tensor) -> None:
        if self.prefix_length and h.ndim != 3:
            raise MuxwrapError(f"no tokens here: {list(h.shape)} has no room for a prefix of {self.prefix_length}")
