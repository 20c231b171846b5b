"""Trying sites on the backbone itself: what works is found out, not listed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muxwrap.attach import MASK, Attached
from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError
from muxwrap.layout import Sites
from muxwrap.sites.probe import ROWS, quiet, run
from muxwrap.strategies.identity import Identity
from muxwrap.tensors import first_tensor, tensors_in


class Trial:
    """A backbone, an example of three equal rows, and dry runs at sites: two by two, mixed by nothing but a mean.

    Args:
        backbone: left as it is after every run.
        example: a call of the backbone.
        prefix: tokens that the demuxer will put before every mixture.
    """

    def __init__(self, backbone: nn.Module, example: Any, prefix: int = 0) -> None:
        self.backbone = backbone
        self.example = example
        self.prefix = prefix
        self._outcomes: dict[Any, list[Tensor] | str] = {}

    def problem(self, sites: Sites) -> str | None:
        """Return what goes wrong at these sites, or None if three rows come back."""
        return _reason(self._run(sites, self.prefix))

    def faithful(self, sites: Sites) -> bool:
        """Whether copies of one input get, mixed with each other, the bare model's own answers.

        They have to where nothing is random; they do not where rows or masks only happen to fit by their shapes.
        """
        own, mixed = self._bare(sites.mask != "none"), self._run(sites)
        return not isinstance(own, str) and not isinstance(mixed, str) and all(map(_close, own, mixed))

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
                self._outcomes[key] = answers(attached, self.example, sites.mask != "none", finite=blot)
            finally:
                attached.detach()
        return self._outcomes[key]


def answers(model: nn.Module, example: Any, masked: bool, finite: bool = False) -> list[Tensor] | str:
    """Run a model on three rows, also with padding if it takes a mask; return its answers, or what went wrong.

    Args:
        model: bare or multiplexed.
        example: a call of the model.
        masked: whether it takes a mask.
        finite: accept finite answers only.
    """
    found = []
    try:
        with quiet(model):
            for one in [_padded(example), example] if masked else [example]:
                torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
                output = run(model, one)
                first = first_tensor(output)
                if first is None or first.shape[0] != ROWS:
                    return f"{ROWS} rows in, {None if first is None else first.shape[0]} rows out"
                if finite and not all(bool(torch.isfinite(part).all()) for part in tensors_in(output)):
                    return "not finite"
                found.append(first)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return found


def _reason(outcome: list[Tensor] | str) -> str | None:
    return outcome if isinstance(outcome, str) else None


def _close(own: Tensor, mixed: Tensor) -> bool:
    if own.shape != mixed.shape:
        return False
    spread = (own - mixed).abs()
    if own.ndim > 2:
        spread = torch.cat([spread[:, : _HOLE.start], spread[:, _HOLE.stop :]], dim=1)  # nobody reads these answers
    tolerance = 0.03 if own.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return bool((spread <= tolerance * own.abs().max() + 1e-6).all())


_HOLE = slice(5, 7)  # neither the first nor the last token, which a head may read


def _padded(example: Any) -> dict[str, Any]:
    """Return keyword arguments with a mask that leaves two tokens of every row out."""
    arguments = dict(example) if hasattr(example, "keys") else {"input_ids": first_tensor(example)}
    tokens = first_tensor(arguments)
    assert tokens is not None
    mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    mask[:, _HOLE] = 0
    return {**arguments, MASK: mask}


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
            if h.ndim < 3:
                raise MuxwrapError("no tokens here, and so no first one")
            h = torch.cat([h[:, :1], torch.full_like(h[:, 1:], torch.nan)], dim=1)
        return h.unsqueeze(1).expand(-1, self.n, *h.shape[1:])

    def _check(self, h: Tensor) -> None:
        if self.prefix_length and h.ndim != 3:
            raise MuxwrapError(f"no tokens here: {list(h.shape)} has no room for a prefix of {self.prefix_length}")
