"""Which token of a mixture holds which tokens of its instances, and what follows from that for a trunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class Places:
    """The places of the tokens of n instances in their mixture of M tokens.

    Args:
        at: ``[g, n, L]``: the token of the mixture that holds a token, M where it is in none (padding).
        length: M.
        isolated: whether a token of the mixture sees its own instance only.
        proportional: whether a key counts as many times as it holds tokens.
    """

    at: Tensor
    length: int
    isolated: bool = True
    proportional: bool = True

    @cached_property
    def sizes(self) -> Tensor:
        """How many tokens every token of the mixture holds, ``[g, M]``; 0 where the mixture itself is padded."""
        at = self.at.flatten(1)
        counts = at.new_zeros(at.shape[0], self.length + 1).scatter_add(1, at, torch.ones_like(at))
        return counts[:, : self.length]

    @cached_property
    def middle(self) -> Tensor:
        """The middle one of the tokens that a token of the mixture holds, as ``i·L + position``: ``[g, M]``.

        It lends the pooled token its position, wherever the trunk asks for one. Of a token that holds nothing it is token 0.
        """
        order = self.at.flatten(1).argsort(dim=1, stable=True)
        start = self.sizes.cumsum(1) - self.sizes
        middle = order.gather(1, (start + (self.sizes - 1).clamp(min=0) // 2).clamp(max=order.shape[1] - 1))
        return middle * (self.sizes > 0)

    @cached_property
    def owner(self) -> Tensor:
        """The instance that a token of the mixture belongs to, ``[g, M]``; n where it holds nothing."""
        n, tokens = self.at.shape[1:]
        return torch.where(self.sizes > 0, torch.div(self.middle, tokens, rounding_mode="floor"), n)

    # -- tokens there and back ----------------------------------------------------------------------------------------

    def pool(self, x: Tensor) -> Tensor:
        """Return the mean of the tokens that share a place: ``[g, n, L, d] -> [g, M, d]``; zeros where there are none."""
        groups, dim = x.shape[0], x.shape[-1]
        first = torch.arange(groups, device=x.device)[:, None] * (self.length + 1)
        index = (self.at.flatten(1) + first).flatten()
        exact = torch.promote_types(x.dtype, torch.float32)  # sums of many tokens in half precision lose digits
        total = torch.zeros(groups * (self.length + 1), dim, dtype=exact, device=x.device)
        total = total.index_add(0, index, x.reshape(-1, dim).to(exact)).unflatten(0, (groups, -1))[:, : self.length]
        return (total / self.sizes.clamp(min=1).unsqueeze(-1)).to(x.dtype)

    def spread(self, h: Tensor, first_token: bool = False) -> Tensor:
        """Give every token what its place holds: ``[g, M, d] -> [g, n, L, d]``; zeros at padding.

        Args:
            h: the mixtures.
            first_token: of token 0 alone: ``[g, n, 1, d]``.
        """
        at = self.at[:, :, :1] if first_token else self.at
        index = at.flatten(1).clamp(max=self.length - 1).unsqueeze(-1).expand(-1, -1, h.shape[-1])
        spread = h.gather(1, index).unflatten(1, at.shape[1:])
        return spread.masked_fill((at == self.length).unsqueeze(-1), 0)

    # -- what a layer gets besides its tokens ---------------------------------------------------------------------------

    def of_tokens(self, value: Tensor, axis: int) -> Tensor:
        """Take what a layer gets about every token at the places' middles: ``[g, n, ..., L, ...] -> [g, ..., M, ...]``.

        Args:
            value: grouped by instances.
            axis: of the L tokens, in ``value``; the axes between it and the instances are of size 1 or alike.
        """
        tokens = value.movedim(axis, 2).flatten(1, 2)  # [g, n L, ...]
        index = self.middle.reshape(*self.middle.shape, *[1] * (tokens.ndim - 2)).expand(-1, -1, *tokens.shape[2:])
        return tokens.gather(1, index).movedim(1, axis - 1)

    def of_pairs(self, value: Tensor) -> Tensor:
        """Take what a layer gets about every pair of tokens: ``[g, n, ..., L, L] -> [g, ..., M, M]``.

        Between two instances it is what the positions have in the query's one.
        """
        length = self.at.shape[2]
        queries, keys = torch.div(self.middle, length, rounding_mode="floor"), self.middle % length
        rows = self.middle % length
        index = ((queries * length + rows) * length).unsqueeze(2) + keys.unsqueeze(1)  # [g, M, M]
        pairs = value.movedim(1, -3).flatten(-3)  # [g, ..., n L L]
        between = [1] * (pairs.ndim - 2)
        index = index.reshape(index.shape[0], *between, -1).expand(*pairs.shape[:-1], -1)
        return pairs.gather(-1, index).unflatten(-1, (self.length, self.length))

    def seen(self) -> Tensor:
        """Return which keys a query may read, ``[g, 1, M, M]`` of bool; what holds nothing reads itself alike."""
        if self.isolated:
            return (self.owner.unsqueeze(2) == self.owner.unsqueeze(1)).unsqueeze(1)
        real = self.sizes > 0
        return (real.unsqueeze(1) | ~real.unsqueeze(2)).unsqueeze(1)

    def scores(self, like: Tensor) -> Tensor:
        """Return what is added to the scores of attention, ``[g, 1, M, M]``: log(size) of a key, or the least number.

        With it a key that holds s equal tokens counts as s keys (Bolya et al., arXiv:2210.09461, section 3).
        """
        sizes = self.sizes.clamp(min=1) if self.proportional else torch.ones_like(self.sizes)
        added = sizes.to(like.dtype).log()[:, None, None, :]
        return torch.where(self.seen(), added, torch.finfo(like.dtype).min)
