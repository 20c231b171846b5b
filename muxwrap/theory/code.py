"""The slot code: n instances of an r-dimensional subspace in n orthonormal slots of one wider space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError, check_count, check_dim
from muxwrap.strategies.scaling import scale_factor


class SlotCode(nn.Module):
    """φ_i = P Q_iᵀ with orthonormal slot bases Q_i: ``mix(x) = s Σ_i x_i φ_i``, and ``unmix`` gives the x_i back exactly.

    This is the code of the theory of multiplexing in self-attention (DataMUX, Murahari et al., NeurIPS 2022; reconstructed
    from the published low-rank code, not taken from its text). Rows are tokens. Exactness needs ``n · r <= dim`` and
    instances inside span(P); what an instance has outside of it is lost.

    Args:
        bases: ``[n, r, dim]``, the Q_iᵀ: all n·r rows together orthonormal.
        subspace: P, ``[width, r]`` with orthonormal columns: where the instances lie. By default they are given as r
            numbers each (P the identity, ``width = r``).
        scale: ``s``, as in :class:`~muxwrap.Strategy`: ``"sum"`` (1), ``"mean"``, ``"sqrt"`` or a number. Weights made
            from this code absorb it: it changes no result.

    Raises:
        MuxwrapError: wrong shapes, ``n · r > dim``, bases or subspace not orthonormal, a bad scale.
    """

    keys: Tensor

    def __init__(self, bases: Tensor, subspace: Tensor | None = None, *, scale: str | float = "sum") -> None:
        super().__init__()
        if bases.ndim != 3 or 0 in bases.shape:
            raise MuxwrapError(f"SlotCode(bases of shape {list(bases.shape)}): bases are [n, r, dim], none of them 0")
        self.n, self.rank, self.dim = bases.shape
        check_room(self.n, self.rank, self.dim)
        _check_orthonormal("bases", bases.flatten(0, 1))
        if subspace is not None:
            if subspace.ndim != 2 or subspace.shape[1] != self.rank:
                raise MuxwrapError(
                    f"SlotCode(subspace of shape {list(subspace.shape)}): the bases have r={self.rank}, so the subspace is "
                    f"[width, {self.rank}]"
                )
            _check_orthonormal("subspace", subspace.T)
        self.width = self.rank if subspace is None else subspace.shape[0]
        self.scale = scale
        self.factor = scale_factor(scale, self.n)
        keys = bases if subspace is None else subspace.to(bases) @ bases
        self.register_buffer("keys", keys.clone())  # φ: [n, width, dim]

    @classmethod
    def coordinates(cls, n: int, rank: int, dim: int | None = None, *, dtype: torch.dtype | None = None) -> SlotCode:
        """Return the code whose slot i is coordinates ``i·rank .. (i + 1)·rank - 1``; ``dim`` is n · rank by default.

        Raises:
            MuxwrapError: a bad number, or ``n · rank > dim``.
        """
        dim = _sizes(n, rank, dim)
        return cls(torch.eye(dim, dtype=dtype)[: n * rank].unflatten(0, (n, rank)))

    @classmethod
    def random(
        cls, n: int, rank: int, dim: int | None = None, *, seed: int = 0, dtype: torch.dtype | None = None
    ) -> SlotCode:
        """Return a code whose bases are slices of one random orthogonal matrix; ``dim`` is n · rank by default.

        Raises:
            MuxwrapError: a bad number, or ``n · rank > dim``.
        """
        dim = _sizes(n, rank, dim)
        return cls(random_frame(dim, n * rank, seed).T.unflatten(0, (n, rank)).to(dtype or torch.get_default_dtype()))

    def mix(self, x: Tensor) -> Tensor:
        """Mix ``[g, n, ..., width]`` into ``[g, ..., dim]``.

        Raises:
            MuxwrapError: the number of instances or of features is another one.
        """
        if x.ndim < 3 or x.shape[1] != self.n or x.shape[-1] != self.width:
            raise MuxwrapError(
                f"{self} got {list(x.shape)}; it mixes [groups, {self.n}, ..., {self.width}] (instances in the second axis)"
            )
        return torch.einsum("gn...e,ned->g...d", x, self.keys.to(x.dtype)) * self.factor

    def unmix(self, mixture: Tensor) -> Tensor:
        """Apply R_i = φ_iᵀ / s for every i: ``[g, ..., dim] -> [g, n, ..., width]``."""
        return torch.einsum("g...d,ned->gn...e", mixture, self.keys.to(mixture.dtype)) / self.factor

    def reading(self, weight: Tensor) -> Tensor:
        """Stack ``weight R_iᵀ``: a map ``[out, width]`` of every instance, read from the mixture, as ``[n · out, dim]``."""
        return torch.einsum("oe,ned->nod", weight, self.keys.to(weight)).flatten(0, 1) / self.factor

    def writing(self, weight: Tensor) -> Tensor:
        """Stack ``s φ_iᵀ weight``: a map ``[width, in]`` of every instance, written to its slot, as ``[dim, n · in]``."""
        return torch.einsum("ei,ned->dni", weight, self.keys.to(weight)).flatten(1) * self.factor

    def constant(self, bias: Tensor) -> Tensor:
        """Return the mixture of n times the same vector: ``[width] -> [dim]``."""
        return torch.einsum("e,ned->d", bias, self.keys.to(bias)) * self.factor

    def extra_repr(self) -> str:
        """Return the sizes that ``print`` shows."""
        return f"n={self.n}, rank={self.rank}, dim={self.dim}, width={self.width}, scale={self.scale!r}"


def check_room(n: int, rank: int, dim: int) -> None:
    """Refuse slots that do not fit.

    Raises:
        MuxwrapError: ``n · rank > dim``.
    """
    if n * rank > dim:
        raise MuxwrapError(
            f"n={n} instances of rank {rank} need n · rank = {n * rank} dimensions and dim={dim}: exact separation needs "
            f"n · rank <= dim; take n <= {dim // rank}, or muxwrap.theory.full_rank_error for what is lost beyond"
        )


def random_frame(dim: int, columns: int, seed: int) -> Tensor:
    """Draw ``columns`` orthonormal columns of ``dim`` numbers, in float64; the global random state is left alone."""
    normal = torch.randn(dim, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal).Q


def _sizes(n: int, rank: int, dim: int | None) -> int:
    dim = check_count(n) * check_dim(rank) if dim is None else check_dim(dim)
    check_room(n, rank, dim)
    return dim


def _check_orthonormal(name: str, rows: Tensor) -> None:
    error = (rows @ rows.T - torch.eye(len(rows)).to(rows)).abs().max().item()
    if not error <= 1e3 * torch.finfo(rows.dtype).eps:
        raise MuxwrapError(
            f"SlotCode({name}=...): not orthonormal, the products of its vectors are wrong by up to {error:.1e}; "
            "take the Q of torch.linalg.qr, or SlotCode.random"
        )
