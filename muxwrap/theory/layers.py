"""Layers that work on every instance of a mixture at once, and never on two together."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.theory.code import SlotCode
from muxwrap.theory.weights import Affine, Attention, Layer


def reading(code: SlotCode, affine: Affine) -> nn.Linear:
    """Return the linear that applies a map to every instance: from the mixture to n results side by side."""
    weight, bias = affine
    return _linear(code.reading(weight), None if bias is None else bias.repeat(code.n))


def writing(code: SlotCode, affine: Affine) -> nn.Linear:
    """Return the linear that applies a map to each of n inputs side by side and writes the results into the mixture."""
    weight, bias = affine
    return _linear(code.writing(weight), None if bias is None else code.constant(bias))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype
    )
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear


class GroupedAttention(nn.Module):
    """Self-attention on mixtures, its heads in groups that belong to one instance each.

    Head (i, j) has Ŵ_Q = R_i W_Q^j, likewise for keys and values, and Ŵ_O = s W_O^j φ_i: with as many groups as instances
    its output is ``s Σ_i Attn(x_i) φ_i``, a mixture in the same code.

    With fewer groups (``groups < n``), n / groups instances share the heads of a group. Their features are stacked in the
    head's dimension, so that its logits are the sum of theirs: the pattern of all of them is the normalised product of
    theirs (:func:`~muxwrap.theory.shared_heads_error`).

    Args:
        code: the slot code.
        attention: the weights, of one instance's width.
        groups: head groups; n of them are exact.

    Raises:
        MuxwrapError: ``groups`` does not divide n, or the attention has another width than the code's instances.
    """

    def __init__(self, code: SlotCode, attention: Attention, groups: int | None = None) -> None:
        super().__init__()
        self.n, self.groups, self.heads = code.n, code.n if groups is None else groups, attention.heads
        if isinstance(self.groups, bool) or self.groups not in range(1, code.n + 1) or code.n % self.groups:
            raise MuxwrapError(f"groups={groups!r} does not divide the n={code.n} instances; groups=n is exact")
        if attention.query[0].shape[1] != code.width:
            raise MuxwrapError(
                f"the attention is {attention.query[0].shape[1]} wide and the code's instances are {code.width} wide; "
                "make the code for the attention's width"
            )
        self.scaling = (attention.query[0].shape[0] // attention.heads) ** -0.5
        self.query, self.key, self.value = (
            reading(code, each) for each in (attention.query, attention.key, attention.value)
        )
        self.out = writing(code, attention.out)

    def forward(self, mixture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend in ``[g, L, dim]``.

        Args:
            mixture: the mixture.
            mask: ``[g, n, 1 or L, L]``, True where instance i's queries may look; heads shared by several instances look
                where all of these may.
        """
        q, k, v = (self._heads(project(mixture)) for project in (self.query, self.key, self.value))
        if mask is not None:
            mask = (
                rearrange(mask, "g (k m) q l -> g k m q l", k=self.groups).all(2).repeat_interleave(self.heads, dim=1)
            )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scaling)
        return self.out(rearrange(attended, "g (k h) l (m c) -> g l (k m h c)", k=self.groups, m=self.n // self.groups))

    def _heads(self, x: Tensor) -> Tensor:
        pattern = "g l (k m h c) -> g (k h) l (m c)"
        return rearrange(x, pattern, k=self.groups, m=self.n // self.groups, h=self.heads)


class SlotNorm(nn.Module):
    """A norm that respects slots: every instance is normalised by its own statistics.

    Args:
        code: the slot code.
        norm: any norm over one instance's features (``nn.LayerNorm``, ``nn.RMSNorm``, ``nn.Identity``); copied.
    """

    def __init__(self, code: SlotCode, norm: nn.Module) -> None:
        super().__init__()
        self.code = code
        self.norm = copy.deepcopy(norm)

    def forward(self, mixture: Tensor) -> Tensor:
        """Normalise ``[g, L, dim]``."""
        return self.code.mix(self.norm(self.code.unmix(mixture)))


class MultiplexedLayer(nn.Module):
    """One encoder layer on mixtures. Dropout is left out: the statement is about the function that a layer computes.

    Args:
        code: the slot code.
        layer: the weights of a layer of one instance's width; they are copied.
        groups: head groups, see :class:`GroupedAttention`.

    Raises:
        MuxwrapError: as :class:`GroupedAttention`.
    """

    def __init__(self, code: SlotCode, layer: Layer, groups: int | None = None) -> None:
        super().__init__()
        self.attention = GroupedAttention(code, layer.attention, groups)
        self.up, self.down = reading(code, layer.up), writing(code, layer.down)
        self.activation = layer.activation
        self.norms = nn.ModuleList(SlotNorm(code, norm) for norm in layer.norms)
        self.norm_first = layer.norm_first

    def forward(self, mixture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the layer on ``[g, L, dim]``; ``mask`` as in :meth:`GroupedAttention.forward`."""
        first, second = self.norms
        if self.norm_first:
            mixture = mixture + self.attention(first(mixture), mask)
            return mixture + self._feed_forward(second(mixture))
        mixture = first(mixture + self.attention(mixture, mask))
        return second(mixture + self._feed_forward(mixture))

    def _feed_forward(self, mixture: Tensor) -> Tensor:
        return self.down(self.activation(self.up(mixture)))
