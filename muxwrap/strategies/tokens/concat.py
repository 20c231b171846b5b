"""Sequences shortened and put one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.resampling import area


@registry.register("concat")
class Concat(Strategy):
    """φ_i(x) = L tokens shortened to about L/n, as the i-th stretch of L tokens (ConcatPlexer, arXiv:2308.11199).

    A token of the mixture is made of one instance only, and attention brings the instances together or keeps them apart.
    Tokens are shortened by a strided convolution of its own for every index and feature, at the start the mean over n
    neighbours. If n does not divide L, the first L mod n stretches are one token longer, and the tokens are first resized
    a little. ``unbind`` is the adjoint: it spreads stretch i over L tokens, so that the demuxer ``unbind``, put where the
    tokens still are, separates the instances.
    Mix before class tokens are added (``mux_at="patch_embed"`` in timm), and not where a mask is in use.
    Cost: about 3 multiplications per number of every instance.

    Args:
        n: instances in a mixture.
        dim: features of a token.
        learnable: train the convolutions (the default here).
        scale: ``"sum"`` by default, since stretches do not add up.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``, or (at the first mixture) fewer tokens than instances.
    """

    sees: ClassVar[Sees] = "tokens"
    disjoint = True
    keys: Tensor

    def __init__(self, n: int, dim: int, *, learnable: bool = True, scale: str | float = "sum", seed: int = 0) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        keys = torch.zeros(n, dim, 3 * n, device="cpu", dtype=torch.float32)  # one stride, and one more on either side
        keys[..., n : 2 * n] = 1 / n
        self.set_keys("keys", keys)

    def bind(self, x: Tensor) -> Tensor:
        """Shorten instance i and put it at stretch i, zeros elsewhere: ``[g, n, L, dim] -> [g, n, L, dim]``."""
        bound, start, length = [], 0, fixed(x.shape)[2]
        for stretch in self._shortened(x):
            end = start + stretch.shape[1]
            bound.append(F.pad(stretch, (0, 0, start, length - end)))
            start = end
        return torch.stack(bound, dim=1)

    def unbind(self, z: Tensor) -> Tensor:
        """Spread stretch i of entry i over all tokens (the adjoint): ``[g, n, L, dim] -> [g, n, L, dim]``."""
        spread, length = [], fixed(z.shape)[2]
        for i, stretch in enumerate(z.split(self._lengths(length), dim=2)):
            tokens = self._convolve(F.conv_transpose1d, stretch[:, i], i)
            spread.append(area(tokens.shape[1], length, tokens).T @ tokens)
        return torch.stack(spread, dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Put the shortened sequences one after the other; nothing longer than one mixture is held."""
        return torch.cat(self._shortened(x), dim=1) * self.factor

    def _shortened(self, x: Tensor) -> list[Tensor]:
        """Return every instance in about L / n tokens, ``[g, length i, dim]``."""
        shortened = []
        given = fixed(x.shape)[2]
        for i, short in enumerate(self._lengths(given)):
            tokens, length = x[:, i], short * self.n
            if length != given:
                tokens = area(length, given, x) @ tokens
            shortened.append(self._convolve(F.conv1d, tokens, i))
        return shortened

    def _convolve(self, convolve: Callable[..., Tensor], tokens: Tensor, i: int) -> Tensor:
        """Convolve ``[g, L, dim]`` along the tokens with the kernels of index i, one per feature."""
        kernels = self.keys[i].to(tokens.dtype).unsqueeze(1)
        made = convolve(tokens.transpose(1, 2), kernels, stride=self.n, padding=self.n, groups=self.dim)
        return made.transpose(1, 2)

    def _lengths(self, length: int) -> list[int]:
        if length < self.n:
            raise MuxwrapError(
                f"concat(n={self.n}) gives every instance tokens of its own and has {length} of them; take n <= {length} "
                "or a strategy that adds full-size codes, such as 'sign'"
            )
        return [length // self.n + (i < length % self.n) for i in range(self.n)]
