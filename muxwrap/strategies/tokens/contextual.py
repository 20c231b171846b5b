"""Attention within every instance before it is bound, and between the instances before they are summed."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from muxwrap._util.seeding import seeded
from muxwrap.errors import MuxwrapError, known_names
from muxwrap.site import Sees
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.checks import check_instances, check_norm
from muxwrap.strategies.keys import gaussian, per_index
from muxwrap.strategies.scaling import scaled_sum

Padding = Literal["out", "mixed", "attended"]
PADDING = ("out", "mixed", "attended")


@registry.register("contextual")
class Contextual(Strategy):
    """φ_i(x) = (x + T(x)) ⊙ g_i, combined as s · Σ_i (b_i + T'(b)_i) (MUX-PLM, "contextual multiplexing").

    T is a transformer layer over the tokens of one instance, T' one over the n bound instances b at each position, both
    with the norm after each half as in BERT, and the g_i are Gaussian keys as in ``hadamard``, which stay fixed. Not
    linear, and without a way back. (``gaussian_attention_v2`` in the published code.)
    Cost: two transformer layers per instance, where the trunk has one pass per mixture: n·2/depth of a bare trunk.

    Args:
        n: instances in a mixture.
        dim: features of a token.
        heads: of both layers; they divide ``dim``. By default one per 64 features, as far as that divides.
        hidden: width of both feed-forward nets; by default 4·dim.
        dropout: in both layers.
        norm: ‖g_i‖₂, by default √dim.
        eps: of the layers' norms.
        learn_keys: train the keys as well.
        padding: what becomes of padding: ``"out"`` (not attended, and left out of the mixture), or as
            published, ``"mixed"`` (not attended, but summed like a token; the published sequence classifier) or
            ``"attended"`` (summed, and attended by the other instances; the published token classifier).
        learnable: always true, since the layers have to be trained.
        scale: see :class:`~muxwrap.strategies.Strategy`; the published code uses ``"mean"``.
        seed: fixes the keys, and the layers at the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``scale``, ``norm``, ``heads``, ``hidden`` or ``padding``, or
            ``learnable=False``.
    """

    sees: ClassVar[Sees] = "tokens"
    reads_mask: ClassVar[bool] = True
    keys: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        heads: int | None = None,
        hidden: int | None = None,
        dropout: float = 0.0,
        norm: float | None = None,
        eps: float = 1e-5,
        learn_keys: bool = False,
        padding: Padding = "out",
        learnable: bool = True,
        scale: str | float = "sqrt",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learn_keys, scale=scale, seed=seed)
        if not learnable:
            raise MuxwrapError("contextual(learnable=False): its layers have to be trained; leave learnable=True")
        if padding not in PADDING:
            raise MuxwrapError(f"contextual(padding={padding!r}) is unknown; {known_names(padding, PADDING)}")
        self.heads = _fitting(dim) if heads is None else heads
        self.hidden = 4 * dim if hidden is None else hidden
        if self.heads < 1 or dim % self.heads or self.hidden < 1:
            raise MuxwrapError(
                f"contextual(dim={dim}, heads={heads!r}, hidden={hidden!r}): heads divide dim, hidden is 1 or more"
            )
        self.dropout, self.norm, self.eps = dropout, check_norm("contextual", norm), eps
        self.learn_keys, self.padding = learn_keys, padding
        self.set_keys("keys", gaussian(seed, n, dim, norm))
        self.learnable = True  # of the keys alone until here
        with seeded(seed):
            self.within = self._layer()
            self.across = self._layer()

    def _layer(self) -> nn.TransformerEncoderLayer:
        return nn.TransformerEncoderLayer(
            self.dim,
            self.heads,
            self.hidden,
            self.dropout,
            "gelu",
            layer_norm_eps=self.eps,
            batch_first=True,
            dtype=torch.float32,
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix ``[g, n, L, dim]`` into ``[g, L, dim]``.

        Args:
            x: tokens of the instances.
            mask: ``[g, n, L]``, 0 where an instance has padding; without one nothing is padding.

        Raises:
            MuxwrapError: another number of instances, features or axes.
        """
        check_instances(type(self).__name__, self.sees, self.n, self.dim, x)
        return self.combine(self.bind(x, mask), mask)

    def bind(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the tokens of an instance attend to each other, times its key: ``[g, n, L, dim] -> [g, n, L, dim]``."""
        context = _attend(self.within, rearrange(x, "g n l d -> (g n) l d"), _rearranged(mask, "g n l -> (g n) l"))
        return (x + rearrange(context, "(g n) l d -> g n l d", n=self.n)) * per_index(self.keys, x)

    def combine(self, bound: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the instances of a position attend to each other, sum, scale: ``[g, n, L, dim] -> [g, L, dim]``."""
        read = None if self.padding == "attended" else _rearranged(mask, "g n l -> (g l) n")
        context = _attend(self.across, rearrange(bound, "g n l d -> (g l) n d"), read)
        total = bound.transpose(1, 2) + rearrange(context, "(g l) n d -> g l n d", g=bound.shape[0])
        if mask is not None and self.padding == "out":
            total = total * rearrange(mask, "g n l -> g l n 1").to(total.dtype)
        return scaled_sum(total, 2, self.factor)


def _rearranged(mask: Tensor | None, pattern: str) -> Tensor | None:
    """Rearrange a mask, if there is one."""
    return None if mask is None else rearrange(mask, pattern)


def _attend(layer: nn.TransformerEncoderLayer, x: Tensor, mask: Tensor | None) -> Tensor:
    """Run a layer in the precision of ``x`` ``[b, L, dim]``; ``mask`` ``[b, L]`` is 0 at what is not attended."""
    left_out = None
    if mask is not None:
        read = mask.bool()
        left_out = ~read & read.any(1, keepdim=True)  # nothing but padding is attended: an empty softmax is NaN
    if layer.norm1.weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return layer(x, src_key_padding_mask=left_out)
    weights = {name: value.to(x.dtype) for name, value in layer.named_parameters()}
    return torch.func.functional_call(layer, weights, (x,), {"src_key_padding_mask": left_out})


def _fitting(dim: int) -> int:
    """Return the largest number of heads of 64 features or more that divides ``dim``."""
    return next(heads for heads in range(max(1, dim // 64), 0, -1) if dim % heads == 0)
