"""Neighbouring tokens pooled, the instances side by side and kept apart: for trained trunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_instances, refuse_learning
from muxwrap.strategies.places import Places
from muxwrap.strategies.tokens._neighbours import masked_runs, most_runs, runs, windows
from muxwrap.strategies.tokens._pool_options import check_again, check_grid, check_whole


@registry.register("pool")
class Pool(Strategy):
    """φ_i(x) = the means of n neighbouring tokens, the instances one after the other: L tokens in a mixture of about L.

    For a trunk with trained weights, which goes on between two of its layers as if it had fewer tokens: nothing is learned
    here, and nothing depends on n besides how many neighbours are pooled. Padding is left out, a class token stays alone,
    and the patches of an image are pooled in windows. In a wrapped model the layers after the site get masks and
    positions for the mixture:

    * an instance reads itself only, so that its answer does not depend on its companions;
    * log(s) is added to the attention scores of a key that holds s tokens (ToMe's proportional attention, Bolya et al.,
      arXiv:2210.09461, section 3): equal tokens are answered as they were before they were pooled;
    * a pooled token has the position of the middle one of its tokens, where layers ask for positions.

    The demuxer ``unbind`` gives every token what its place has become, plus what the token had more than the mean at the
    mux site. Means over neighbours shorten sequences in Funnel-Transformer (Dai et al., arXiv:2006.03236, section 2.2).
    Cost: two passes over the instances' tokens. A layer costs what it does for sequences of L/n tokens.

    Args:
        n: instances in a mixture, and tokens in a mean.
        dim: features of a token.
        keep: first tokens that stay alone: the class token; in an image whatever comes before the patches.
        separators: token ids that stay alone as well; what is on their two sides is not pooled.
        grid: height and width in patches where the last height·width tokens are patches of an image; they are pooled in
            windows whose sides are as equal as the divisors of n allow. None for neighbours in a sequence.
        again: pairs (k, s): after k of the layers that run on mixtures, s of the pooled neighbours become one once more, for
            trunks that take ever fewer tokens the deeper they are. Means are those of the tokens, however often.
        isolated: keep the instances apart; otherwise they attend to each other.
        proportional: add log(s); a trunk whose layers take masks of 0 and 1 only needs False.
        learnable: refused, since nothing is learned.
        scale: 1 by default: every token of a mixture is of one instance.
        seed: accepted, but nothing is drawn.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``keep``, ``separators``, ``grid``, ``again`` or ``scale``, ``learnable=True``, or
            (at the first mixture) other tokens than ``grid`` says.
    """

    sees: ClassVar[Sees] = "tokens"
    disjoint = True
    reads_mask: ClassVar[bool] = True
    places_tokens: ClassVar[bool] = True
    own_demuxer: ClassVar[str | None] = "unbind"

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        keep: int = 1,
        separators: Sequence[int] = (),
        grid: Sequence[int] | None = None,
        again: Sequence[Sequence[int]] = (),
        isolated: bool = True,
        proportional: bool = True,
        learnable: bool = False,
        scale: str | float = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        refuse_learning("pool", learnable, "means over neighbours have no weights")
        self.keep = check_whole("keep", keep, 0)
        self.separators = tuple(check_whole("separators", each, 0) for each in separators)
        self.grid = None if grid is None else check_grid(grid)
        if self.grid is not None and self.separators:
            raise MuxwrapError(
                f"pool(grid={grid!r}, separators={separators!r}): an image has no separators; leave one of the two out"
            )
        self.again = check_again(again)
        self.isolated = isolated
        self.proportional = proportional

    def place(self, x: Tensor, mask: Tensor | None = None, ids: Tensor | None = None, times: int = 1) -> Places:
        """Return where the tokens of instances ``[g, n, L, ...]`` go.

        Args:
            x: the instances.
            mask: ``[g, n, L]``, 0 at padding.
            ids: ``[g, n, L]``, the token ids, which separators are found by.
            times: as many times n neighbours share a place.

        Raises:
            MuxwrapError: L is not what ``grid`` says, or separators are to be found without ids.
        """
        n = fixed(x.shape)[1]
        within, counts = self._within(x, None if mask is None else mask != 0, ids, n * times)
        if isinstance(counts, int):
            ends = counts * torch.arange(1, n + 1, device=x.device).unsqueeze(0)
            length = counts * n
        else:
            ends = counts.cumsum(1)
            length = int(ends[:, -1].max()) if len(ends) else 0
        at = within + (ends - counts).unsqueeze(-1)
        return Places(torch.where(within < 0, length, at), length, self.isolated, self.proportional)

    def length(self, tokens: int) -> int:
        """Return how many tokens a mixture of instances of so many tokens has, if nothing of them is padding."""
        if self.grid is not None:
            return self.n * windows(self.grid, self.keep, self.n, torch.device("cpu"))[1]
        return self.n * most_runs(tokens, self.keep, self.n)

    def bind(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool instance i into its own places, zeros elsewhere: ``[g, n, L, dim] -> [g, n, M, dim]``."""
        places = self.place(x, mask)
        own = places.owner.unsqueeze(1) == torch.arange(x.shape[1], device=x.device)[:, None]
        return places.pool(x).unsqueeze(1) * own.unsqueeze(-1).to(x.dtype)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Return the pooled instances one after the other: ``[g, n, L, dim] -> [g, M, dim]``."""
        return self.place(x).pool(x) * self.factor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix ``[g, n, L, dim]`` into ``[g, M, dim]``; ``mask`` ``[g, n, L]`` is 0 at padding.

        Raises:
            MuxwrapError: another number of instances, features or axes, or other tokens than ``grid`` says.
        """
        check_instances(type(self).__name__, self.sees, self.n, self.dim, x)
        return self.place(x, mask).pool(x) * self.factor

    def _within(self, x: Tensor, real: Tensor | None, ids: Tensor | None, size: int) -> tuple[Tensor, int | Tensor]:
        """Return the place of every token within its instance, -1 at padding, and how many there are in an instance.

        It is one number where that does not depend on data: without padding and separators, and in compiled code, where it
        is the largest that there can be.
        """
        length = x.shape[2]
        if self.grid is not None:
            return self._in_windows(x, real, self.grid, size)
        if real is None and not self.separators:
            return runs(length, self.keep, size, x.device).expand(x.shape[:3]), most_runs(length, self.keep, size)
        real = torch.ones(x.shape[:3], dtype=torch.bool, device=x.device) if real is None else real
        places, counts = masked_runs(real, self._alone(ids), self.keep, size)
        if torch.compiler.is_compiling():
            return places, length if self.separators else most_runs(length, self.keep, size)
        return places, counts

    def _in_windows(self, x: Tensor, real: Tensor | None, grid: tuple[int, int], size: int) -> tuple[Tensor, int]:
        places, count = windows(grid, self.keep, size, x.device)
        if len(places) != fixed(x.shape)[2]:
            raise MuxwrapError(
                f"pool(grid={grid}, keep={self.keep}) is for {len(places)} tokens and got {x.shape[2]}; wrap the model "
                "with an example_input of the size that it is called with, or give grid=None"
            )
        places = places.expand(x.shape[:3])
        return (places if real is None else torch.where(real, places, -1)), count

    def _alone(self, ids: Tensor | None) -> Tensor | None:
        if not self.separators:
            return None
        if ids is None:
            raise MuxwrapError(
                f"pool(separators={self.separators}) finds them by their ids: call the model with input_ids"
            )
        return torch.isin(ids, torch.tensor(self.separators, device=ids.device))
