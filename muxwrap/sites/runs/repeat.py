"""The demuxer of dry runs, see :func:`~muxwrap.sites.runs.dry_run.mixed_answers`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.demuxers.base import Demuxer
from muxwrap.errors import MuxwrapError


class Repeat(Demuxer):
    """Gives every index the mixture itself, and learns nothing.

    Args:
        n: instances per mixture.
        dim: of the features.
        prefix: empty tokens before every mixture.
        probe: make every token of the last mixture but the first NaN.
    """

    def __init__(self, n: int, dim: int, prefix: int, probe: bool) -> None:
        super().__init__(n, dim)
        self.prefix = prefix
        self.probe = probe

    @property
    def prefix_length(self) -> int:
        """As given."""
        return self.prefix

    def extend(self, mixture: Tensor) -> Tensor:
        """Put empty tokens before a mixture."""
        self._check(mixture)
        return F.pad(mixture, (0, 0, self.prefix_length, 0)) if self.prefix_length else mixture

    def forward(self, h: Tensor) -> Tensor:
        """Return ``[g, n, ...]``, n times what came in."""
        self._check(h)
        h = h[:, self.prefix_length :]
        if self.probe:
            if h.ndim < 3 or h.shape[1] < 2:
                raise MuxwrapError("there are no other tokens here; separate where there is a sequence")
            h = h.clone()
            h[-1, 1:] = torch.nan
        return h.unsqueeze(1).expand(-1, self.n, *h.shape[1:])

    def _check(self, h: Tensor) -> None:
        if self.prefix_length and h.ndim != 3:
            raise MuxwrapError(
                f"{list(h.shape)} has no room for a prefix of {self.prefix_length} tokens; mix and separate where there is a "
                "sequence"
            )
