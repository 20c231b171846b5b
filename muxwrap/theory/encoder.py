"""From a small real encoder to the one that computes n of its passes in one, exactly."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError, check_count
from muxwrap.theory.code import SlotCode
from muxwrap.theory.layers import GroupedAttention, MultiplexedLayer, SlotNorm
from muxwrap.theory.weights import attention_of, layers_of


class MultiplexedEncoder(nn.Module):
    """An encoder over mixtures: instances ``[g, n, L, width]`` -> mixture ``[g, L, dim]`` -> ... -> ``[g, n, L, width]``.

    Args:
        code: how instances are mixed.
        layers: modules ``layer(mixture, mask)``, each of which maps mixtures of the code to mixtures of the code.
        norm: after the last layer, if the encoder has one.
    """

    def __init__(self, code: SlotCode, layers: list[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.code = code
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix, run the layers once, and unmix.

        Args:
            x: instances, ``[g, n, L, width]``.
            mask: each instance's own, True (or 1) where one may look: its tokens ``[g, n, L]``, or queries by keys
                ``[g, n, L, L]``. A query that may look nowhere has no defined result.

        Returns:
            ``[g, n, L, width]``.

        Raises:
            MuxwrapError: another shape.
        """
        return self.code.unmix(self.trunk(self.code.mix(x), _full_mask(mask, x)))

    def trunk(self, mixture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the layers on ``[g, L, dim]`` with a mask ``[g, n, 1 or L, L]``: the single pass."""
        for layer in self.layers:
            mixture = layer(mixture, mask)
        return mixture if self.norm is None else self.norm(mixture)


def multiplexed(
    encoder: nn.Module, n: int | None = None, *, code: SlotCode | None = None, groups: int | None = None, seed: int = 0
) -> MultiplexedEncoder:
    """Return the encoder of width n·r that computes n passes of a real encoder of width r in one, exactly.

    Attention gets n times as many heads, in n groups, from the slot bases; the feed-forward is block-diagonal in the
    slot bases; norms are taken slot by slot; residuals need nothing. It holds for any number of layers because every
    layer maps a mixture of x_i to the mixture of its outputs.

    Exact is not free, see :func:`~muxwrap.theory.operations`: the one pass does n times the multiplications of n passes
    in its linear maps, and as many in its attention patterns. It shows that a wide trunk *can* carry n independent
    computations, which is what training looks for. Weights are copied, and dropout is left out.

    Args:
        encoder: ``nn.TransformerEncoder``, ``nn.TransformerEncoderLayer`` (either norm order), a Hugging Face
            ``BertModel`` (its encoder is taken: give it embedded tokens), or an ``nn.MultiheadAttention`` (without
            residual).
        n: instances in a mixture; not needed with ``code``.
        code: the slot code; by default random slot bases with ``dim = n · r``. With a ``subspace`` P narrower than the
            encoder, every attention and feed-forward output is projected onto P: exact where the encoder maps span(P)
            to itself, and where ``n · rank(P) <= dim``.
        groups: head groups, n by default; with fewer it is no longer exact.
        seed: of the random bases.

    Raises:
        MuxwrapError: an unknown encoder, a bad n or groups, or a code of another width.

    Example:
        >>> small = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> x = torch.randn(5, 3, 7, 8)
        >>> big = multiplexed(small, 3)
        >>> torch.allclose(big(x), small(x.flatten(0, 1)).view_as(x), atol=1e-4)
        True
    """
    call = f"multiplexed({type(encoder).__name__}, n={n!r})"
    try:
        single = isinstance(encoder, nn.MultiheadAttention)
        layers, norm = ([], None) if single else layers_of(encoder)
        attentions = [attention_of(encoder)] if single else [layer.attention for layer in layers]  # type: ignore[arg-type]
        weight = attentions[0].query[0]
        code = _code(code, n, weight, seed)
        if single:
            return MultiplexedEncoder(code, [GroupedAttention(code, attentions[0], groups)])
        made: list[nn.Module] = [MultiplexedLayer(code, layer, groups) for layer in layers]
        return MultiplexedEncoder(code, made, None if norm is None else SlotNorm(code, norm))
    except MuxwrapError as error:
        raise MuxwrapError(f"{call}: {error}") from error


def _code(code: SlotCode | None, n: int | None, weight: Tensor, seed: int) -> SlotCode:
    if code is None:
        if n is None:
            raise MuxwrapError("neither n nor a code was given; give n, the number of instances in a mixture")
        code = SlotCode.random(check_count(n), weight.shape[1], seed=seed, dtype=torch.float64)
    elif n not in (None, code.n):
        raise MuxwrapError(f"the code mixes {code.n} instances; leave n out, or make the code for n={n}")
    return copy.deepcopy(code).to(weight)


def _full_mask(mask: Tensor | None, x: Tensor) -> Tensor | None:
    if mask is None:
        return None
    tokens = tuple(x.shape[:3])
    if tuple(mask.shape) == tokens:
        return mask.bool().unsqueeze(2)
    if tuple(mask.shape) == (*tokens, x.shape[2]):
        return mask.bool()
    raise MuxwrapError(
        f"mask of shape {list(mask.shape)} for instances of shape {list(x.shape)}: every instance has its own, "
        f"{list(tokens)} (its tokens) or {[*tokens, x.shape[2]]} (queries by keys)"
    )
