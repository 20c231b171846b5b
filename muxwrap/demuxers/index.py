"""A prefix of n tokens, of which the trunk makes the indices' keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from muxwrap._util.sizes import fixed
from muxwrap.demuxers.base import Demuxer, registry
from muxwrap.demuxers.few import activated, normed
from muxwrap.demuxers.sentinel_ids import check_sentinel_ids, prepend
from muxwrap.errors import MuxwrapError, check_dim


@registry.register("index")
class Index(Demuxer):
    """Linear(GELU-LayerNorm(W_p p_i + W_h h_j + b)), p_i the trunk's output at prefix token i (DataMUX, section 3.2).

    :meth:`extend` puts n learned tokens before every mixture, and the trunk computes from them and from the mixture
    what index i has to look for. The published prefix, tokens before every *instance* that are mixed like the rest,
    does not depend on the input, so that its mixture is one ``[n, mux_dim]`` tensor, which is learned here.
    For token sequences ``[g, L, dim]`` alone, with a trunk that lets tokens see each other and keeps their number.
    Cost: n more tokens for the trunk, dim² multiplications per mixture and position (prefix included), and dim² per
    instance and position for the last layer. The concatenation [p_i; h_j] is never made.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis where the demuxer sits.
        mux_dim: size of the feature axis where the mixture is made; by default ``dim``.
        sentinel_ids: the published prefix instead of the learned one: the ids ``(a, filler, c)`` put n fillers before the
            tokens of instance i, the i-th of them replaced by ``a - i``, and after them c. They are embedded and mixed
            like the rest.
        prefix_outputs: how many of the tokens before an instance have outputs as well, counted from the last. The
            published sequence models read the output of c (1), the token models return all of them (n + 1).
        project: end with a linear layer; the published demuxers have none.
        eps: of the norm.
        hide_index: norm what comes out per index, see :class:`~muxwrap.demuxers.IndexNorm`.
        seed: fixes the initial values; the prefix is normal with standard deviation 0.02.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``mux_dim``, ``sentinel_ids`` or ``prefix_outputs``.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        mux_dim: int | None = None,
        sentinel_ids: Sequence[int] | None = None,
        prefix_outputs: int = 0,
        project: bool = True,
        eps: float = 1e-5,
        hide_index: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, hide_index=hide_index, seed=seed)
        self.mux_dim = dim if mux_dim is None else check_dim(mux_dim)
        self.sentinel_ids = check_sentinel_ids(n, sentinel_ids)
        self.uses_sentinel_ids = self.sentinel_ids is not None
        self.prefix_outputs = prefix_outputs
        if not 0 <= prefix_outputs <= self.tokens_added:
            raise MuxwrapError(
                f"index(prefix_outputs={prefix_outputs!r}): the prefix has {self.tokens_added} tokens, and only they can "
                "have outputs"
            )
        self.project, self.eps = project, eps
        with self.seeded():
            if not self.uses_sentinel_ids:
                self.prefix = nn.Parameter(0.02 * torch.randn(n, self.mux_dim))
            self.join = nn.Linear(2 * dim, dim)  # W_p | W_h
            self.norm = nn.LayerNorm(dim, eps=eps)
            self.out = nn.Linear(dim, dim) if project else nn.Identity()

    @classmethod
    def prefix_for(cls, n: int) -> int:
        """Return n: one token per index."""
        return n

    @property
    def tokens_added(self) -> int:
        """The prefix, and the token after it where it is made of sentinel ids."""
        return self.n + self.uses_sentinel_ids

    def extend(self, mixture: Tensor) -> Tensor:
        """Put the prefix before a mixture of tokens: ``[g, L, mux_dim] -> [g, n + L, mux_dim]``.

        A prefix of sentinel ids is in the mixture already.

        Raises:
            MuxwrapError: the mixture is not a sequence of tokens of size ``mux_dim``.
        """
        if mixture.ndim != 3 or fixed(mixture.shape)[-1] != self.mux_dim:
            raise MuxwrapError(
                f"Index puts {self.n} tokens before a mixture of tokens [groups, tokens, {self.mux_dim}] and got "
                f"{list(mixture.shape)}; {_WITHOUT_TOKENS}"
            )
        if self.uses_sentinel_ids:
            return mixture
        prefix = repeat(self.prefix.to(mixture.dtype), "n dim -> g n dim", g=mixture.shape[0])
        return torch.cat([prefix, mixture], dim=1)

    def insert_sentinel_ids(self, ids: Tensor) -> Tensor:
        """Put the prefix of ids before every instance: ``[g, n, L] -> [g, n, n + 1 + L]``."""
        return ids if self.sentinel_ids is None else prepend(ids, self.sentinel_ids)

    def forward(self, h: Tensor) -> Tensor:
        """Separate ``[g, tokens_added + L, dim]`` into ``[g, n, prefix_outputs + L, dim]``.

        Raises:
            MuxwrapError: ``h`` is not a sequence of tokens, or nothing follows the prefix.
        """
        self._check_tokens(h)
        of_prefix, of_token = self.join.weight.split(self.dim, dim=1)
        of_index = F.linear(h[:, : self.n], of_prefix, self.join.bias).unsqueeze(2)
        u = of_index + F.linear(h[:, self.tokens_added - self.prefix_outputs :], of_token).unsqueeze(1)
        return self.finished(self.out(normed(activated(u), self.norm.weight, self.norm.bias, self.eps)))

    def _check_tokens(self, h: Tensor) -> None:
        if h.ndim != 3 or fixed(h.shape)[-1] != self.dim or fixed(h.shape)[1] <= self.n:
            raise MuxwrapError(
                f"Index separates [groups, {self.n} prefix tokens + tokens, {self.dim}] and got {list(h.shape)}; where "
                f"the trunk drops or pools its tokens the prefix is lost: {_WITHOUT_TOKENS}"
            )


_WITHOUT_TOKENS = "the demuxers 'key', 'mlp' and 'unbind' need no prefix and work on any layout"
